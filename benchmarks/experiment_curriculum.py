"""Does the order of the data matter? Introduction then advanced part, the same shuffled, the advanced part only (OCT).

    python benchmarks/experiment_curriculum.py --runs runs/curriculum

The question of RetinaVLM (Holland et al., arXiv 2407.08410), from scratch on phantoms: many eyes with plain questions,
few eyes with whole examinations. All arms start from the same tower, which has compared pictures with descriptions.
`curriculum` sees the first part, then the second with a share of the first again; `shuffled` sees the same
conversations as often, in one mixture; `advanced only` sees the second part for as many conversations as the curriculum
takes in all. All are tested on the held-out eyes, beside blank and exchanged pictures. The eyes and the tests are the
same in all seeds; the seed draws weights, order and wording of the training conversations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiment import Interval, arguments, interval, over_seeds, plot, run_seeds, save

from medvlm.curricula import load_curriculum
from medvlm.curricula.spec import Curriculum, Stage

ARMS = {"curriculum": "advanced", "shuffled": "shuffled", "advanced only": "only"}
SKILLS = ("advanced", "stage", "referral", "signs")
MEASURES = {"A_Q": "answers", "A_Q blank": "blank", "A_Q exchanged": "shuffled"}


def with_arms(curriculum: Curriculum) -> Curriculum:
    """The curriculum's two parts, and the same data in other orders as side branches, from the same tower."""
    see, first, second = curriculum.stages[:3]
    first = replace(first, gate={})
    epochs = "trainer.max_epochs"
    second = replace(second, settings=dict(second.settings) | {epochs: first.settings[epochs]})
    # Epochs of both parts are the same, so weights say how often each conversation is shown.
    name, other = (next(iter(stage.sources)) for stage in (first, second))
    passes = {name: 1.0 + second.replay, other: 1.0}
    shuffled = Stage("shuffled", sources=passes, start=see.id, settings=first.settings)
    sources = curriculum.sources
    eyes = {key: source.share * source.per_study for key, source in sources.items()}
    # As many conversations as both parts together.
    weight = sum(passes[key] * eyes[key] for key in passes) / eyes[other]
    only = Stage("only", sources={other: round(weight, 2)}, start=see.id, settings=first.settings)
    cases = replace(curriculum.cases, seed=0)
    return replace(curriculum, cases=cases, stages=(see, first, second, shuffled, only))


def main() -> None:
    """Run what is left, then report."""
    given = arguments(__doc__ or "", "experiment_curriculum")
    curriculum = with_arms(load_curriculum("retina_amd"))
    cards = run_seeds(curriculum, given)
    if not cards:
        raise SystemExit("no seed is finished yet")
    table: dict[str, Any] = {}
    print(f"{len(cards)} seeds; mean over seeds (95 % interval), per cent")
    for skill in SKILLS:
        print(f"\n{skill}\n{'':<16}" + "".join(f"{arm:>24}" for arm in ARMS))
        table[skill] = {}
        for name, key in MEASURES.items():
            row = {
                arm: interval(over_seeds(cards, stage, lambda tests: tests[skill][key]))  # noqa: B023
                for arm, stage in ARMS.items()
            }
            table[skill][name] = {arm: vars(value) for arm, value in row.items()}
            print(f"{name:<16}" + "".join(f"{value!s:>24}" for value in row.values()))
    gains: dict[str, Any] = {}
    print("\ncurriculum minus the others, points of A_Q (paired by seed)")
    for arm in list(ARMS)[1:]:
        gains[arm] = {}
        for skill in SKILLS:
            own, base = (
                over_seeds(cards, ARMS[name], lambda tests: tests[skill]["answers"])  # noqa: B023
                for name in ("curriculum", arm)
            )
            gains[arm][skill] = vars(interval([one - two for one, two in zip(own, base, strict=True)]))
        print(f"{arm:<16}" + "   ".join(f"{skill} {Interval(**row)}" for skill, row in gains[arm].items()))
    save(given, curriculum, cards, {"table": table, "curriculum_minus": gains})
    groups = {skill: {arm: Interval(**row) for arm, row in table[skill]["A_Q"].items()} for skill in SKILLS}
    plot(given.out.with_suffix(".png"), groups, "right answers, per cent")


if __name__ == "__main__":
    main()
