"""The reference report of a phantom: the true findings in varied radiological wording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medvlm.phantom.case import PhantomCase
from medvlm.phantom.lesions import Effusion, Nodule
from medvlm.phantom.patient import ENLARGED_RATIO

TECHNIQUES = (
    "CT of the chest {contrast} intravenous contrast, {slice:.1f} mm slices, {kernel} kernel.",
    "Axial CT of the chest {contrast} contrast medium. Slice spacing {slice:.1f} mm ({kernel}).",
    "Chest CT, {slice:.1f} mm, reconstructed with {kernel}, {contrast} contrast.",
)
NODULES = (
    "There is a {grade} nodule in the {lobe} measuring {size}.",
    "{Grade} nodule of {size} in the {lobe}.",
    "In the {lobe}, a {grade} nodule with a long axis of {size} is seen.",
    "{lobe_upper}: {grade} nodule, long axis {size}, volume {volume}.",
    "A {size} {grade} nodule is present in the {lobe} (volume {volume}).",
)
NO_NODULE = (
    "No pulmonary nodule.",
    "The lungs are free of nodules.",
    "No nodule is seen in either lung.",
)
EFFUSIONS = (
    "There is a {amount} {side} pleural effusion of about {volume}.",
    "{Amount} pleural effusion on the {side}, estimated at {volume}.",
    "{Side}-sided pleural effusion, {amount} ({volume}).",
)
NO_EFFUSION = ("No pleural effusion.", "The pleural spaces are free of fluid.", "No pleural fluid on either side.")
ENLARGED = (
    "The heart is enlarged with a cardiothoracic ratio of {ratio:.2f}.",
    "Cardiomegaly (cardiothoracic ratio {ratio:.2f}).",
    "Enlarged cardiac silhouette, cardiothoracic ratio {ratio:.2f}.",
)
NOT_ENLARGED = (
    "The heart is not enlarged (cardiothoracic ratio {ratio:.2f}).",
    "Heart size is normal, cardiothoracic ratio {ratio:.2f}.",
    "No cardiomegaly; the cardiothoracic ratio is {ratio:.2f}.",
)
LIMITS_ML = ((200.0, "small"), (600.0, "moderate"), (float("inf"), "large"))


def reference_report(case: PhantomCase) -> str:
    """The report of a case; the same case always gets the same words."""
    rng = np.random.default_rng([case.seed, case.index, 2])

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    nodules = [_nodule(nodule, pick(NODULES)) for nodule in case.nodules] or [pick(NO_NODULE)]
    effusions = [_effusion(effusion, pick(EFFUSIONS)) for effusion in case.effusions] or [pick(NO_EFFUSION)]
    enlarged = case.cardiothoracic_ratio > ENLARGED_RATIO
    heart = pick(ENLARGED if enlarged else NOT_ENLARGED).format(ratio=case.cardiothoracic_ratio)
    findings = [" ".join(nodules), " ".join(effusions), heart]
    if rng.random() < 0.3:
        findings = [findings[2], findings[0], findings[1]]
    contrast = "with" if case.patient.anatomy.blood_hu > 100 else "without"
    technique = pick(TECHNIQUES).format(contrast=contrast, slice=case.volume.spacing[2], kernel=case.acquisition.kernel)
    impression = "\n".join(f"{n}. {line}" for n, line in enumerate(_impression(case, enlarged), start=1))
    return f"TECHNIQUE\n{technique}\n\nFINDINGS\n" + "\n".join(findings) + f"\n\nIMPRESSION\n{impression}\n"


def millilitres(volume: float) -> str:
    """`0.04 mL`, `1.2 mL`, `340 mL`: as many digits as a reader would give."""
    if volume >= 10:
        return f"{round(volume, -1):.0f} mL"
    return f"{volume:.1f} mL" if volume >= 0.1 else f"{volume:.2f} mL"


def _nodule(nodule: Nodule, template: str) -> str:
    return template.format(
        grade=nodule.grade,
        Grade=nodule.grade.capitalize(),
        lobe=nodule.lobe_name,
        lobe_upper=nodule.lobe_name.capitalize(),
        size=f"{nodule.long_axis:.0f} mm",
        volume=millilitres(nodule.volume),
    )


def _effusion(effusion: Effusion, template: str) -> str:
    amount = next(word for limit, word in LIMITS_ML if effusion.volume < limit)
    return template.format(
        amount=amount,
        Amount=amount.capitalize(),
        side=effusion.side,
        Side=effusion.side.capitalize(),
        volume=millilitres(effusion.volume),
    )


def _impression(case: PhantomCase, enlarged: bool) -> list[str]:
    lines = []
    if case.nodules:
        largest = case.nodules[0]
        others = len(case.nodules) - 1
        more = f" and {others} further nodule{'s' if others > 1 else ''}" if others else ""
        lines.append(f"{largest.grade.capitalize()} nodule, {largest.lobe_name}, {largest.long_axis:.0f} mm{more}.")
    if len(case.effusions) == 2:
        lines.append("Bilateral pleural effusions.")
    elif case.effusions:
        lines.append(f"{case.effusions[0].side.capitalize()} pleural effusion.")
    if enlarged:
        lines.append("Cardiomegaly.")
    return lines or ["No abnormality of lungs, pleura or heart size."]
