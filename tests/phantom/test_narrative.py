"""Reference reports say what is true, in more than one way."""

from __future__ import annotations

import pytest

from medvlm.phantom import generate_case
from medvlm.phantom.narrative import millilitres, reference_report


def test_a_report_names_every_nodule_effusion_and_the_heart() -> None:
    seen = set()
    for index in range(8):
        case = generate_case(9, index)
        report = reference_report(case)
        findings = report.split("FINDINGS\n")[1].split("IMPRESSION")[0]
        for nodule in case.nodules:
            assert nodule.lobe_name in findings.lower()
            assert f"{nodule.long_axis:.0f} mm" in findings
        for effusion in case.effusions:
            assert effusion.side in findings.lower()
            assert millilitres(effusion.volume) in findings
        assert f"{case.cardiothoracic_ratio:.2f}" in findings
        seen.add(findings.strip().splitlines()[-1].split("0.")[0])
    assert len(seen) > 2


@pytest.mark.parametrize(("volume", "text"), [(0.043, "0.04 mL"), (1.24, "1.2 mL"), (852.0, "850 mL"), (14.0, "10 mL")])
def test_volumes_are_rounded_as_a_reader_would(volume: float, text: str) -> None:
    assert millilitres(volume) == text
