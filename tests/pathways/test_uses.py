"""What else the one file does: rewards for other trainers, reports, Findings, grammars, pictures, commands."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from medvlm.errors import MedVLMError
from medvlm.findings.finding import Code, Finding, Measurement, Provenance
from medvlm.pathways import load_pathway, parse_pathway
from medvlm.pathways.adapters import reward_function
from medvlm.pathways.bindings import bind_findings
from medvlm.pathways.coverage import branch_coverage
from medvlm.pathways.draw import draw_pathway, tables_text
from medvlm.pathways.grammar import answer_grammar, answers_schema
from medvlm.pathways.lint import lint
from medvlm.pathways.reports import ReportReader
from medvlm.pathways.simulate import Simulator
from medvlm.pathways.verdict import verdict
from tests.pathways.library import LIBRARY, scorer
from tests.pathways.small import SMALL


def test_the_package_imports_no_heavy_library() -> None:
    code = (
        "import sys, medvlm.pathways; print([m for m in ('torch','numpy','monai','transformers') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_reward_function_takes_what_a_grpo_trainer_gives() -> None:
    rows = list(Simulator(scorer("bone_marrow")).conversations(4, 0))
    reward = reward_function(load_pathway("bone_marrow"))
    prompts = [[row["messages"][0]] for row in rows]
    completions = [[{"role": "assistant", "content": m["content"]} for m in row["messages"][1::2]] for row in rows]
    symbols = [json.dumps(row["symbols"]) for row in rows]
    assert reward(prompts=prompts, completions=completions, symbols=symbols, trainer_state=None) == [1.0] * 4
    single = reward(
        prompts=["What is the diagnosis?"] * 2,
        completions=["AML", [{"role": "assistant", "content": "Multiple myeloma."}]],
        asked=[["diagnosis"]] * 2,
        truth=[{"diagnosis": "aml"}] * 2,
    )
    assert single[0] == 1.0
    assert single[1] < 0.3
    with pytest.raises(MedVLMError, match="no column 'symbols'"):
        reward(prompts=["?"], completions=["AML"])


@pytest.mark.slow
def test_trl_trains_a_step_with_the_reward_function(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed")
    from datasets import Dataset
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    words = "AML MM blasts healthy marrow not the diagnosis is ? . What".split()  # noqa: SIM905
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )
    config = GPT2Config(
        vocab_size=len(vocabulary), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=1
    )
    data = Dataset.from_list(
        [{"prompt": "What is the diagnosis ?", "asked": ["diagnosis"], "truth": json.dumps({"diagnosis": "aml"})}] * 8
    )
    settings = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
    )
    trainer = GRPOTrainer(
        model=GPT2LMHeadModel(config),
        reward_funcs=reward_function("bone_marrow"),
        args=settings,
        train_dataset=data,
        processing_class=tokenizer,
    )
    trainer.train()
    logged = [row for row in trainer.state.log_history if "reward" in row]
    assert logged
    assert "rewards/pathway_bone_marrow/mean" in logged[0]


REPORT = """INDICATION: Pneumonia? Previous pleural effusion.
COMPARISON: None.
FINDINGS: The heart is enlarged. There is a small left pleural effusion. No pneumothorax,
consolidation or fracture. A pacemaker is in place.
IMPRESSION: Cardiomegaly. Otherwise normal chest radiograph.
"""


def test_a_report_becomes_symbols_with_places_and_conflicts() -> None:
    found = ReportReader(load_pathway("chest_xray")).read(REPORT)
    values = {name: reading.symbol for name, reading in found.readings.items() if reading.state == "value"}
    assert values["cardiomegaly"] is True
    assert values["pleural_effusion"] is True
    assert [values[name] for name in ("pneumothorax", "consolidation", "fracture")] == [False] * 3
    assert values["support_devices"] is True
    assert "pneumonia" not in values
    (start, end) = found.readings["pleural_effusion"].spans[0]
    assert REPORT[start:end] == "pleural effusion"
    # A normal radiograph cannot have cardiomegaly or an effusion.
    assert any("no_finding" in conflict.slots for conflict in found.conflicts)


def test_members_of_an_entity_are_read_apart() -> None:
    text = "Right eye: large drusen. Left eye: no large drusen, pigment changes are present."
    found = ReportReader(load_pathway("areds_simplified")).read(text).readings
    assert found["large_drusen[right]"].symbol is True
    assert found["large_drusen[left]"].symbol is False
    assert found["pigment[left]"].symbol is True


def _nodule(size: float, grade: str, unit: str = "mm") -> Finding:
    long_axis = Measurement(Code("103339001", "SCT", "Long axis"), size, unit)
    concept = Code("RID50149", "RADLEX", "Pulmonary nodule")
    source = Provenance("chest_ct", "1.0")
    return Finding("n", "1.2", concept, "present", source, grade=grade, measurements=(long_axis,))


def test_findings_fill_variables_from_the_largest_nodule() -> None:
    pathway = load_pathway("lung_screening")
    filled = bind_findings(pathway, [_nodule(6.0, "part-solid"), _nodule(1.4, "solid", "cm")])
    assert filled == {"size": 14.0, "nodule_type": "solid"}
    assert bind_findings(pathway, []) == {}


def test_a_partly_known_case_leaves_what_can_still_be_and_asks_for_the_rest() -> None:
    checker = scorer("lung_screening").checker
    known = {"complete": True, "nodule_type": "solid", "size": 7.0, "suspicious": False}
    # A solid nodule of 7 mm: 3 at baseline, 4A if new or growing, 2 if stable.
    found = verdict(checker, known)
    assert set(found.open["category"]) == {"2", "3", "4A"}
    assert found.asked == ("comparison",)
    found = verdict(checker, {**known, "comparison": "baseline"})
    assert found.decided == {"category": "3", "management": "six_months"}
    assert verdict(checker, {**known, "comparison": "baseline", "category": "1"}).conflicts


def test_a_row_that_no_data_reaches_is_counted_zero() -> None:
    one = scorer("bone_marrow")
    rows = [{"proliferation": "blasts"}, {"proliferation": "none"}, {"proliferation": "blasts"}]
    counts, total = branch_coverage(one, rows)
    assert total == 3
    assert {row.text: row.cases for row in counts} == {
        "proliferation == blasts": 2,
        "proliferation == plasma_cells": 0,
        "proliferation == none": 1,
        "proliferation == not_assessable": 0,
    }


@pytest.mark.parametrize("name", LIBRARY)
def test_the_picture_is_svg_and_the_tables_are_complete(name: str) -> None:
    pathway = load_pathway(name)
    picture = ElementTree.fromstring(draw_pathway(pathway))
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 1 + len(pathway.variables)
    text = tables_text(pathway)
    assert all(decision.target in text for decision in pathway.decisions)


def test_the_grammar_holds_only_readable_answers() -> None:
    pathway = load_pathway("bone_marrow")
    grammar = answer_grammar(pathway, pathway.slots["diagnosis"])
    assert grammar.startswith('root ::= "')
    options = [json.loads(part) for part in grammar.removeprefix("root ::= ").strip().split(" | ")]
    assert all(scorer("bone_marrow").parser.read(text, "diagnosis").state == "value" for text in options)
    schema = answers_schema(pathway)
    assert schema["properties"]["diagnosis"]["enum"] == ["aml", "mm", "healthy", "not_assessable"]


def test_the_grammar_compiles_in_the_engines_that_are_installed() -> None:
    xgrammar = pytest.importorskip("xgrammar", reason="xgrammar is not installed")
    pathway = load_pathway("lung_screening")
    for name in ("size", "category"):
        xgrammar.Grammar.from_ebnf(answer_grammar(pathway, pathway.slots[name]))


MIDDLE = '- {if: "size < 10", then: middle}'
LINT_MISTAKES = [
    ('      - {if: "size >= 10", then: high}\n', "", "has no row for"),
    ("rows:\n", 'hit: unique\n    rows:\n      - {if: "lesion", then: high}\n', "both hit"),
    (MIDDLE, MIDDLE + '\n      - {if: "size < 9", then: middle}', "never applies"),
    ("words: [middle]", "words: [middle, low]", "belongs to"),
    ('then: lesion, text: "only', 'then: "lesion or not lesion", text: "only', "forbids nothing"),
    ("size: 5}, expect: {grade: middle}", "size: 5}, expect: {grade: low}", "excludes grade"),
    ("      high: {say", "      highest: {say: [top]}\n      high: {say", "can never be highest"),
    ("low: {say: [low grade]", "low: {train: [Not low grade.], say: [low grade]", "reads as"),
]


@pytest.mark.parametrize(("old", "new", "says"), LINT_MISTAKES, ids=[says for _, _, says in LINT_MISTAKES])
def test_lint_finds_what_only_trying_can_find(old: str, new: str, says: str) -> None:
    assert old in SMALL
    report = lint(parse_pathway(SMALL.replace(old, new, 1)))
    assert any(says in remark.text for remark in report.remarks if remark.level == "error"), report.remarks
    assert not report.ok


def test_a_clean_file_has_no_error() -> None:
    report = lint(parse_pathway(SMALL))
    assert [remark.text for remark in report.remarks if remark.level == "error"] == []
    assert report.figures["satisfying assignments"] == "21"


def test_the_commands_work_on_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medvlm.cli import main

    file, rows = tmp_path / "pathway.yaml", tmp_path / "rows.jsonl"
    file.write_text(SMALL, encoding="utf-8")
    main(["pathway", "lint", str(file)])
    assert "no errors" in capsys.readouterr().out
    main(["pathway", "simulate", str(file), "--out", str(rows), "--count", "5", "--hint", "misleading"])
    main(["pathway", "score", str(file), str(rows), "--out", str(tmp_path / "scores.jsonl"), "--explain", "1"])
    out = capsys.readouterr().out
    assert "mean reward                       +1.000" in out
    main(["pathway", "lint", str(file), "--data", str(rows)])
    assert "rows reached by rows.jsonl" in capsys.readouterr().out
    main(["pathway", "show", str(file), "--svg", str(tmp_path / "small.svg")])
    assert (tmp_path / "small.svg").read_text(encoding="utf-8").startswith("<svg")
    lines = capsys.readouterr().out.splitlines()
    assert all(first != "TABLE" or second for first, second in pairwise(lines))
    report = tmp_path / "report.txt"
    report.write_text("FINDINGS: No lesion. High grade.", encoding="utf-8")
    main(["pathway", "show", str(file), "--report", str(report)])
    assert "CONFLICT lesion + grade" in capsys.readouterr().out
    file.write_text(SMALL.replace("words: [middle]", "words: [middle, low]"), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["pathway", "lint", str(file)])
    assert "mend the lines named" in capsys.readouterr().err
