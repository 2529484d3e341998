"""Findings that several tests use: those of the example in docs/architecture.md."""

from __future__ import annotations

from medvlm.findings import Evidence, Finding, Measurement, Provenance, code

TRUTH = Provenance("truth", "1")


def measured(key: str, value: float, unit: str) -> Measurement:
    return Measurement(code(key), value, unit)


def architecture_findings() -> list[Finding]:
    return [
        Finding(
            id="nodule-2",
            study="s",
            concept=code("lung_nodule"),
            presence="present",
            provenance=TRUTH,
            probability=0.71,
            laterality=code("left"),
            site=code("lower_lobe"),
            grade="part-solid",
            measurements=(
                measured("long_axis", 6.1, "mm"),
                measured("short_axis", 5.0, "mm"),
                measured("volume", 0.12, "mL"),
            ),
        ),
        Finding(
            id="nodule-1",
            study="s",
            concept=code("lung_nodule"),
            presence="present",
            provenance=Provenance("chest_ct", "1.0", "ab" * 32),
            probability=0.94,
            calibrated=True,
            laterality=code("right"),
            site=code("upper_lobe"),
            grade="solid",
            measurements=(measured("long_axis", 14.2, "mm"), measured("volume", 1.2, "mL")),
            evidence=(Evidence("1.2.3", 7, 1, 40, (50.0, -10.0, 100.0), (43.0, -17.0, 93.0, 57.0, -3.0, 107.0)),),
        ),
        Finding(
            id="effusion",
            study="s",
            concept=code("pleural_effusion"),
            presence="present",
            provenance=TRUTH,
            probability=0.98,
            laterality=code("right"),
            measurements=(measured("volume", 240.0, "mL"),),
        ),
        Finding(
            id="heart",
            study="s",
            concept=code("cardiomegaly"),
            presence="present",
            provenance=TRUTH,
            probability=0.97,
            measurements=(measured("cardiothoracic_ratio", 0.56, "1"),),
        ),
    ]


def negative_findings() -> list[Finding]:
    return [
        Finding("n", "s", code("lung_nodule"), "absent", TRUTH, probability=0.1),
        Finding("e", "s", code("pleural_effusion"), "absent", TRUTH),
        Finding(
            "h", "s", code("cardiomegaly"), "absent", TRUTH, measurements=(measured("cardiothoracic_ratio", 0.44, "1"),)
        ),
    ]
