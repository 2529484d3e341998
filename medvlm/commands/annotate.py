"""`medvlm annotate`: run experts over a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal


def annotate(
    cohort: Path,
    out: Path = Path("findings"),
    experts: list[str] | str = "",
    splits: list[Literal["train", "validation", "test"]] | None = None,
    masks: bool = False,
    device: str = "auto",
    workers: int = 1,
    trainer: dict[str, Any] | None = None,
) -> None:
    """Run experts over a cohort and write their findings; run it again to complete an interrupted run.

    Example:
        medvlm annotate clinic --out clinic-findings --experts chest_ct

    Args:
        cohort: folder with cohort.json.
        out: folder of the findings.
        experts: names or paths of experts, one or a list.
        splits: which splits; all if not given.
        masks: write the label maps as NIfTI too.
        device: auto, cpu, cuda or cuda:N.
        workers: processes that read studies ahead.
        trainer: more arguments of lightning.Trainer, such as devices, num_nodes and strategy.
    """
    from medvlm.experts.annotate import annotate_cohort

    names = [name for name in ([experts] if isinstance(experts, str) else experts) if name]
    done = annotate_cohort(
        cohort, out, names, splits or ("train", "validation", "test"), masks, device, workers, trainer
    )
    again = f", {done.resumed} of them from an earlier run" if done.resumed else ""
    print(f"{', '.join(names)}   {done.findings} findings for {done.studies} studies in {out}{again}")
    if done.failed:
        study, reason = next(iter(done.failed.items()))
        print(f"{len(done.failed)} studies failed, reasons in {out / 'failed'} (for example {study}: {reason})")


COMMAND = annotate
