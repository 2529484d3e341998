"""Does a guideline's reward make answers right and consistent? Fine-tuning, then preference, then policy (bone_marrow).

    python benchmarks/experiment_reward.py --runs runs/reward

The question of Dr-LLaVA (Sun et al., arXiv 2405.19567), from scratch on phantoms: fine-tuning sees single questions and
conversations in the guideline's order, of half of the patients; alignment sees mixed orders and hints of all of them,
scored by the guideline. A further arm fine-tunes on the right answers to those same conversations instead: what the
reward adds beyond the data. All arms answer held-out patients
in five settings, each beside blank and exchanged pictures. The patients and the tests are the same in all seeds; the
seed draws weights, order and wording of the training conversations. Prints a table, writes JSON and a plot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiment import Interval, Tests, arguments, interval, over_seeds, plot, run_seeds, save

from medvlm.curricula import load_curriculum
from medvlm.curricula.spec import Curriculum, Stage

ARMS = {"SFT": "reason", "+DPO": "prefer", "+GRPO": "align", "SFT on all": "more"}
SETTINGS = ("standard", "conclusion_first", "random", "subset", "misled")
MEASURES = {
    "A_Q": "answers",
    "A_C": "whole",
    "A_D": "conclusion",
    "inconsistent": "inconsistent",
    "A_Q blank": "blank",
    "A_Q exchanged": "shuffled",
}


def with_control(curriculum: Curriculum) -> Curriculum:
    """The curriculum and one more arm: the right answers to the conversations of the alignment stages."""
    reason = next(stage for stage in curriculum.stages if stage.id == "reason")
    align = next(stage for stage in curriculum.stages if stage.id == "align")
    more = Stage("more", "finetune", dict(align.sources), replay=0.0, start="reason", settings=reason.settings)
    cases = replace(curriculum.cases, seed=0)
    skills = {name: curriculum.skills[name] for name in SETTINGS}
    compared = {"reason", "prefer", "align"}
    stages = tuple(replace(one, gate={}, stop=None, tested=one.id in compared) for one in curriculum.stages)
    return replace(curriculum, cases=cases, skills=skills, stages=(*stages, more))


def main() -> None:
    """Run what is left, then report."""
    given = arguments(__doc__ or "", "experiment_reward")
    curriculum = with_control(load_curriculum("bone_marrow"))
    cards = run_seeds(curriculum, given)
    if not cards:
        raise SystemExit("no seed is finished yet")
    table: dict[str, Any] = {}
    print(f"{len(cards)} seeds; mean over seeds (95 % interval), per cent")
    for setting in SETTINGS:
        print(f"\n{setting}")
        print(f"{'':<16}" + "".join(f"{arm:>24}" for arm in ARMS))
        table[setting] = {}
        for name, key in MEASURES.items():
            row = {
                arm: interval(over_seeds(cards, stage, lambda tests: tests[setting][key] or 0.0))  # noqa: B023
                for arm, stage in ARMS.items()
            }
            table[setting][name] = {arm: vars(value) for arm, value in row.items()}
            print(f"{name:<16}" + "".join(f"{value!s:>24}" for value in row.values()))
    gains = {
        arm: {
            name: vars(paired(cards, ARMS[arm], lambda tests: mean_of(tests, key)))  # noqa: B023
            for name, key in MEASURES.items()
        }
        for arm in list(ARMS)[1:]
    }
    sensitivity = {
        arm: vars(
            interval(over_seeds(cards, stage, lambda tests: mean_of(tests, "answers") - mean_of(tests, "shuffled")))
        )
        for arm, stage in ARMS.items()
    }
    print("\ngain over SFT, mean of the five settings, points (paired by seed)")
    for arm, rows in gains.items():
        print(f"{arm:<12}" + "   ".join(f"{name} {Interval(**row)}" for name, row in rows.items()))
    print("image sensitivity (A_Q minus A_Q beside exchanged pictures)")
    for arm, row in sensitivity.items():
        print(f"{arm:<12}{Interval(**row)}")
    results = {"table": table, "gain_over_sft": gains, "image_sensitivity": sensitivity}
    save(given, curriculum, cards, results)
    groups = {
        f"{setting.replace('_', ' ')}\n{name}": {arm: Interval(**row) for arm, row in table[setting][name].items()}
        for name in ("A_C",)
        for setting in SETTINGS
    }
    groups["inconsistent\nmisled"] = {arm: Interval(**row) for arm, row in table["misled"]["inconsistent"].items()}
    plot(given.out.with_suffix(".png"), groups, "per cent of conversations")


def mean_of(tests: Tests, key: str) -> float:
    """A measure's mean over the five settings."""
    return sum(float(tests[setting][key] or 0.0) for setting in SETTINGS) / len(SETTINGS)


def sensitivity_of(tests: Tests) -> float:
    """Right answers that exchanging the picture takes away."""
    return mean_of(tests, "answers") - mean_of(tests, "shuffled")


def paired(cards: list[dict[str, Any]], stage: str, value: Any) -> Interval:
    """What a stage has more than fine-tuning, seed by seed."""
    own, base = (over_seeds(cards, name, value) for name in (stage, ARMS["SFT"]))
    return interval([one - other for one, other in zip(own, base, strict=True)])


if __name__ == "__main__":
    main()
