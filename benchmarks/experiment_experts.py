"""Do expert findings in the fourth stage help? With and without them, closed loop, on chest CT phantoms.

    python benchmarks/experiment_experts.py --runs runs/experts

The question of VILA-M3 (Nath et al., arXiv 2411.12915), from scratch on phantoms. After the same general stages one arm
is taught with the expert's findings in the conversation, the other with as many conversations that are answered from
the picture. In the closed loop the first must call the expert itself; the second has none. The patients and the
tests are the same in all seeds; the seed draws weights, order and wording of the training conversations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiment import Interval, arguments, interval, over_seeds, plot, run_seeds, save

from medvlm.curricula import load_curriculum
from medvlm.curricula.spec import Curriculum, Skill

MEASURED = ("nodule_size", "effusion_volume", "heart_ratio")
ARMS = {"without": ("without", "picture_measurements"), "with": ("medical", "expert_measurements")}


def with_arms(curriculum: Curriculum) -> Curriculum:
    """The stages up to the medical one, and the same one without an expert as a side branch."""
    stages = {stage.id: stage for stage in curriculum.stages}
    # The tower trains in both arms: the one without an expert has nothing else to learn from.
    settings = {key: value for key, value in stages["medical"].settings.items() if key != "model.tuning.vision"}
    medical = replace(stages["medical"], sources={"expert": 1}, settings=settings)
    sources = curriculum.sources
    taught = sources["expert"].per_study + sources["expert"].practice
    weight = round(taught / sources["plain"].per_study, 2)
    without = replace(medical, id="without", sources={"plain": weight}, start="general")
    skills = {
        "expert_measurements": Skill("expert", MEASURED),
        "picture_measurements": Skill("plain", MEASURED),
        "expert_all": Skill("expert"),
        "picture_all": Skill("plain"),
    }
    return replace(
        curriculum,
        cases=replace(curriculum.cases, seed=0),
        skills=skills,
        stages=(stages["align"], stages["general"], medical, without),
    )


def main() -> None:
    """Run what is left, then report."""
    given = arguments(__doc__ or "", "experiment_experts")
    curriculum = with_arms(load_curriculum("chest_ct"))
    cards = run_seeds(curriculum, given)
    if not cards:
        raise SystemExit("no seed is finished yet")
    table: dict[str, Any] = {}
    print(f"{len(cards)} seeds; mean over seeds (95 % interval), per cent of measurement questions right, closed loop")
    print(f"{'':<22}" + "".join(f"{arm:>24}" for arm in (*ARMS, "gain")))
    for name, key in (("own picture", "answers"), ("blank", "blank"), ("exchanged", "shuffled")):
        row = {
            arm: over_seeds(cards, stage, lambda tests: tests[skill][key])  # noqa: B023
            for arm, (stage, skill) in ARMS.items()
        }
        row["gain"] = [one - two for one, two in zip(row["with"], row["without"], strict=True)]
        table[name] = {arm: vars(interval(values)) for arm, values in row.items()}
        print(f"{name:<22}" + "".join(f"{Interval(**cell)!s:>24}" for cell in table[name].values()))
    by_task: dict[str, Any] = {}
    for task in MEASURED:
        row = {
            arm: over_seeds(cards, stage, lambda tests: tests[skill]["slots"].get(task, 0.0))  # noqa: B023
            for arm, (stage, skill) in ARMS.items()
        }
        row["gain"] = [one - two for one, two in zip(row["with"], row["without"], strict=True)]
        by_task[task] = {arm: vars(interval(values)) for arm, values in row.items()}
        print(f"{task:<22}" + "".join(f"{Interval(**cell)!s:>24}" for cell in by_task[task].values()))
    save(given, curriculum, cards, {"table": table, "tasks": by_task})
    groups = {"all measurements": table["own picture"], **by_task}
    shown = {name.replace("_", " "): {arm: Interval(**row[arm]) for arm in ARMS} for name, row in groups.items()}
    plot(given.out.with_suffix(".png"), shown, "right answers, per cent")


if __name__ == "__main__":
    main()
