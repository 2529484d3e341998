"""The reference report of an OCT phantom: the true findings in varied wording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from medvlm.phantom.oct_case import OctCase

STAGES = {
    "healthy": ("No sign of age-related macular degeneration.", "Healthy macula."),
    "early": ("Early AMD.", "Findings of early age-related macular degeneration."),
    "intermediate": ("Intermediate AMD.", "Findings of intermediate age-related macular degeneration."),
    "late_dry": ("Late dry AMD.", "Late age-related macular degeneration of the dry type."),
    "wet_inactive": ("Late wet AMD, inactive.", "Inactive neovascular AMD."),
    "wet_active": ("Late wet AMD, active.", "Active neovascular AMD."),
}
REFERRALS = {
    "none": ("No referral is needed.", "No referral."),
    "routine": ("Routine referral.", "Refer routinely."),
    "urgent": ("Urgent referral within two weeks.", "Refer urgently for treatment."),
}
PRESENT = {
    "drusenoid_ped": ("Drusenoid or serous pigment epithelial detachment.", "There is a smooth detachment of the RPE."),
    "fibrovascular_ped": ("Fibrovascular pigment epithelial detachment.", "Irregular, fibrovascular PED."),
    "pigment": ("Hyperreflective foci as in pigment migration.", "Pigmentary abnormalities."),
    "atrophy": ("Atrophy of the RPE and the outer retina.", "Loss of the RPE and the photoreceptors (cRORA)."),
    "hypertransmission": (
        "Hypertransmission into the choroid.",
        "A stripe of bright choroid.",
    ),
    "fibrosis": ("Subretinal fibrosis.", "A bright subretinal scar."),
    "shrm": ("Subretinal hyperreflective material.", "SHRM is present."),
    "subretinal_fluid": ("Subretinal fluid.", "There is fluid below the retina."),
    "intraretinal_fluid": ("Intraretinal fluid with cystoid spaces.", "Intraretinal cysts."),
}
DRUSEN = {
    "none": ("No drusen.", "Drusen are absent."),
    "small": ("Small to medium drusen.", "There are small drusen."),
    "large": ("Large drusen, wider than 125 µm.", "There are large soft drusen."),
}


def oct_report(case: OctCase) -> str:
    """The report of a case; the same case always gets the same words."""
    rng = np.random.default_rng([case.seed, case.index, 12])

    def pick(options: Sequence[str]) -> str:
        return options[int(rng.integers(len(options)))]

    technique = f"OCT B-scan of the macula, {case.eye.laterality} eye."
    if not case.eye.gradable:
        poor = pick(("Insufficient image quality; the scan cannot be staged.", "Not gradable: repeat the scan."))
        return f"TECHNIQUE\n{technique}\n\nFINDINGS\n{poor}\n\nIMPRESSION\n{poor}\n"
    known = case.eye.variables()
    lines = [pick(DRUSEN[case.eye.drusen])]
    lines += [pick(options) for name, options in PRESENT.items() if known[name]]
    if not (known["subretinal_fluid"] or known["intraretinal_fluid"]):
        lines.append(pick(("No fluid in or below the retina.", "The retina is dry.")))
    impression = f"1. {pick(STAGES[case.eye.stage])}\n2. {pick(REFERRALS[case.eye.referral])}"
    return f"TECHNIQUE\n{technique}\n\nFINDINGS\n" + "\n".join(lines) + f"\n\nIMPRESSION\n{impression}\n"
