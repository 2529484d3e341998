"""This study against an earlier one: which finding is which, and what has changed, measured."""

from __future__ import annotations

from collections.abc import Sequence

from medvlm.findings.codes import concept_of
from medvlm.findings.finding import Code, Finding
from medvlm.findings.verbalise import UNIT_TEXT, number_text, place_text
from medvlm.reporting.report import Change, Section, Sentence

# Changes below these are not told from the error of measuring. 1.5 mm: growth in Lung-RADS v2022. 25 %: repeatability
# of the volume of a nodule (Revel et al., Radiology 231 (2004) 459). 0.02: the scatter of the ratio between studies.
LENGTH_MM, VOLUME_SHARE, RATIO = 1.5, 0.25, 0.02
# What is compared, the first that both have.
COMPARED = ("Long axis", "Volume", "Cardiothoracic ratio", "Area", "Area ratio")


def compare(findings: Sequence[Finding], prior: Sequence[Finding]) -> tuple[Change, ...]:
    """Match findings by concept, side and site, the nearest sizes first, and measure what has changed."""
    changes: list[Change] = []
    left = [finding for finding in prior if finding.presence == "present"]
    matched: dict[str, Finding] = {}
    present = [finding for finding in findings if finding.presence == "present"]
    pairs = sorted(
        (abs(_size(now) - _size(then)), i, j)
        for i, now in enumerate(present)
        for j, then in enumerate(left)
        if _same_place(now, then)
    )
    taken: set[int] = set()
    for _, i, j in pairs:
        if present[i].id not in matched and j not in taken:
            matched[present[i].id] = left[j]
            taken.add(j)
    for finding in present:
        then = matched.get(finding.id)
        if then is not None:
            changes.append(_measured(finding, then))
        elif any(_key(one.concept) == _key(finding.concept) for one in prior):  # the earlier study looked for it
            changes.append(Change("new", finding.id))
    looked = {_key(finding.concept) for finding in findings}
    for j, finding in enumerate(left):
        if j not in taken and _key(finding.concept) in looked:
            changes.append(Change("resolved", None, finding.id))
    return tuple(changes)


def _same_place(now: Finding, then: Finding) -> bool:
    return [_key(c) for c in (now.concept, now.laterality, now.site)] == [
        _key(c) for c in (then.concept, then.laterality, then.site)
    ]


def _key(code: Code | None) -> tuple[str, str] | None:
    """A code without its meaning, which may be worded otherwise elsewhere."""
    return None if code is None else (code.scheme, code.value)


def _size(finding: Finding) -> float:
    return next((value for name in COMPARED if (value := finding.measure(name)) is not None), 0.0)


def _measured(now: Finding, then: Finding) -> Change:
    for name in COMPARED:
        after, before = now.measure(name), then.measure(name)
        if after is None or before is None:
            continue
        unit = next(row.unit for row in now.measurements if row.code.meaning == name)
        least = {"mm": LENGTH_MM, "1": RATIO}.get(unit, VOLUME_SHARE * before)
        status = "stable" if abs(after - before) < least else "larger" if after > before else "smaller"
        return Change(status, now.id, then.id, name, unit, before, after)
    return Change("unchanged", now.id, then.id)


def comparison_section(
    changes: Sequence[Change], findings: Sequence[Finding], prior: Sequence[Finding]
) -> Section | None:
    """The changes as sentences; None where nothing is compared."""
    if not changes:
        return None
    known = {finding.id: finding for finding in (*findings, *prior)}
    return Section("comparison", "Comparison", tuple(_sentence(change, known) for change in changes))


def _sentence(change: Change, known: dict[str, Finding]) -> Sentence:
    cited = tuple(name for name in (change.finding, change.prior) if name)
    finding = known[cited[0]]
    concept = concept_of(finding.concept)
    place = place_text(finding)
    name = " ".join(word for word in (concept.state, concept.text) if word)
    what = f"{name[:1].upper()}{name[1:]}{f', {place}' if place else ''}"
    if change.status == "new":
        return Sentence(f"{what}: new since the earlier study.", cited)
    if change.status == "resolved":
        return Sentence(f"{what}: no longer seen.", cited)
    if change.before is None or change.after is None:
        return Sentence(f"{what}: seen before, not measured in both studies.", cited)
    unit = UNIT_TEXT.get(change.unit, change.unit)
    before, after = number_text(change.before, change.unit), number_text(change.after, change.unit)
    share = round(100 * (change.after - change.before) / change.before) if change.before else 0
    by = f" by {abs(share)} %" if change.status in ("larger", "smaller") and share else ""
    return Sentence(
        f"{what}: {change.status}{by}, {after} {unit}, previously {before} {unit}.".replace(" ,", ","), cited
    )
