"""The text of a report: verbalised from Findings, or written by a model and checked sentence by sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medvlm.content import list_content
from medvlm.dialogue.trigger import format_trigger, parse_triggers
from medvlm.experts.card import ExpertResult
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import sentence
from medvlm.imaging.study import Study
from medvlm.imaging.view import overview
from medvlm.reporting.report import Sentence
from medvlm.reporting.support import check_sentence, split_sentences

if TYPE_CHECKING:
    from medvlm.experts.expert import Expert

DEFAULT_QUESTION = "Write the report of this scan."


@dataclass(frozen=True)
class Draft:
    """Sentences with their support.

    Attributes:
        sentences: what may be said.
        removed: sentence of the model → why nothing supports it.
        omitted: ids of Findings that are there and that the model did not mention; their sentences are added.
    """

    sentences: tuple[Sentence, ...]
    removed: tuple[tuple[str, str], ...] = ()
    omitted: tuple[str, ...] = ()


def draft_from_findings(findings: Sequence[Finding]) -> Draft:
    """One sentence a Finding."""
    return Draft(tuple(Sentence(sentence(finding), (finding.id,)) for finding in findings))


def check_draft(text: str, findings: Sequence[Finding]) -> Draft:
    """Keep the sentences of a model's text that Findings support, name the others, add what it left out."""
    kept: list[Sentence] = []
    removed: list[tuple[str, str]] = []
    for trigger in parse_triggers(text):
        text = text.replace(format_trigger(trigger), " ")
        removed.append((trigger.name, "the model called the expert again instead of writing"))
    for written in dict.fromkeys(split_sentences(text)):
        support = check_sentence(written, findings)
        if support.findings:
            kept.append(Sentence(written, support.findings, "model"))
        else:
            removed.append((written, support.reason))
    mentioned = {identifier for item in kept for identifier in item.findings}
    omitted = [f for f in findings if f.presence != "absent" and f.id not in mentioned]
    kept += [Sentence(sentence(finding), (finding.id,)) for finding in omitted]
    return Draft(tuple(kept), tuple(removed), tuple(finding.id for finding in omitted))


class VLMWriter:
    """A vision-language model that is asked for a report and may call the experts.

    Attributes:
        name: how the model is named in the report: a hub id, or the last two parts of a folder.
        weights: SHA-256 of the folder's safetensors files, `""` for a hub id.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        """
        Raises:
            MedVLMError: no such model, or it cannot be loaded.
        """
        from medvlm.experts.infer import choose_device
        from medvlm.models.generate import Generator
        from medvlm.models.load import load_model

        loaded = load_model(model, device=choose_device(device))
        self.generator = Generator(loaded, max_new_tokens=256)
        folder = Path(model).expanduser()
        self.name = "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else model
        self.weights = weights_hash(folder) if folder.is_dir() else ""

    def write(self, study: Study, experts: Sequence[Expert], results: Sequence[ExpertResult], folder: Path) -> str:
        """Ask for the report in the closed loop; what the experts found already is not computed again.

        The model sees the overview of the series that the first expert read, in the size it was trained on; the
        picture is put into `folder`.
        """
        from medvlm.dialogue.loop import Desk, ask

        desk = Desk(experts)
        for result in results:
            desk.remember(result.expert, {study.uid: result.findings})
        picture = folder / "seen-by-model.png"
        overview(study.find_series(results[0].series)).save(picture)
        question = report_question([expert.card.name for expert in experts])
        return ask(study, question, self.generator.answer, desk, [str(picture.resolve())]).turns[-1].text


def report_question(experts: Sequence[str]) -> str:
    """How the curriculum of one of these experts asks for a report; a plain request where none does."""
    from medvlm.dialogue.questions import read_questions

    for folder in list_content("curricula").values():
        if not (folder / "questions.yaml").is_file():
            continue
        questions = read_questions(folder)
        reports = [family for family in questions.families if family.sentences]
        if reports and questions.expert in experts:
            return reports[0].train[0]
    return DEFAULT_QUESTION


def weights_hash(folder: Path) -> str:
    """SHA-256 over the safetensors files of a model folder, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
