"""What a report says: title, impression, findings, technique and doubts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medvlm.experts.card import ExpertCard
from medvlm.findings.codes import concept_of
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import measurement_text, place_text
from medvlm.imaging.study import Series, Study
from medvlm.reporting.draft import Draft, is_contradiction
from medvlm.reporting.exam import Exam
from medvlm.reporting.prior import READ_AS_TEXT
from medvlm.reporting.report import Doubt, ExpertUse, Guideline, Section, Sentence

# So many objects of one kind are named one by one; the others are counted.
NAMED_ONE_BY_ONE = 4
SKIPPED_SHOWN = 5
_BRIEF = ("long_axis", "volume", "area", "cardiothoracic_ratio", "area_ratio", "count")


def title_of(series: Sequence[Series]) -> str:
    """`CT chest`: modality and body part of the first series."""
    if not series:
        return "Study"
    return " ".join(part for part in (series[0].modality, series[0].body_part) if part) or "Image"


def compose_sections(findings: Sequence[Finding], draft: Draft) -> tuple[Section, ...]:
    """Impression (always from the measurements) and findings (the draft)."""
    return (
        Section("impression", "Impression", tuple(impression(findings))),
        Section("findings", "Findings", draft.sentences),
    )


def impression(findings: Sequence[Finding]) -> list[Sentence]:
    """The facts in a few lines: what is there, what may be there, what is not."""
    lines: list[Sentence] = []
    for presence in ("present", "uncertain"):
        groups: dict[str, list[Finding]] = {}
        for finding in findings:
            if finding.presence == presence:
                groups.setdefault(finding.concept.value, []).append(finding)
        for group in groups.values():
            group = sorted(group, key=lambda finding: finding.measure("Long axis") or 0.0, reverse=True)
            cut = len(group) if len(group) <= NAMED_ONE_BY_ONE + 1 else NAMED_ONE_BY_ONE
            lines += [Sentence(brief(finding), (finding.id,)) for finding in group[:cut]]
            if group[cut:]:
                lines.append(Sentence(_further(group[cut:]), tuple(finding.id for finding in group[cut:])))
    lines += [Sentence(brief(finding), (finding.id,)) for finding in findings if finding.presence == "absent"]
    return lines or [Sentence("The experts ran and returned no finding, present or absent.", source="notice")]


def brief(finding: Finding) -> str:
    """`Solid lung nodule, right upper lobe, 14 mm, 1.2 mL.`"""
    concept = concept_of(finding.concept)
    if finding.presence == "absent":
        return f"The {concept.text} is not {concept.state}." if concept.state else f"No {concept.text}."
    quality = finding.grade or concept.state
    lead = " ".join(part for part in (quality, concept.text) if part)
    if finding.presence == "uncertain":
        lead = f"possible {lead}"
    measured = [measurement_text(row) for row in finding.measurements if concept_of(row.code).key in _BRIEF]
    text = ", ".join(part for part in (lead, place_text(finding), *measured) if part)
    return f"{text[:1].upper()}{text[1:]}."


def _further(group: Sequence[Finding]) -> str:
    concept = concept_of(group[0].concept)
    sizes = [size for finding in group if (size := finding.measure("Long axis")) is not None]
    largest = f", the largest {max(sizes):.0f} mm" if sizes else ""
    return f"{len(group)} further {concept.plural or concept.text}{largest}."


def compose_technique(series: Sequence[Series], cards: Sequence[ExpertCard]) -> Section:
    """What was read, and how good the experts that ran are; `series` and `cards` are those that were used."""
    notices = [_acquisition(item) for item in series]
    for card in cards:
        if card.accuracy:
            measured = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in card.accuracy.items())
            notices.append(f"{card.name} on its own held-out data: {measured}.")
    return Section("technique", "Technique", tuple(Sentence(text, source="notice") for text in notices))


def _acquisition(series: Series) -> str:
    volume = series.volume
    size = " × ".join(str(length) for length in volume.array.shape[:3])
    voxel = " × ".join(f"{edge:.3g}" for edge in volume.spacing) + " mm" if volume.calibrated else "not calibrated"
    tags = series.tags
    scanner = " ".join(tags[name] for name in ("Manufacturer", "ManufacturerModelName") if name in tags)
    kernel = f"kernel {tags['ConvolutionKernel']}" if "ConvolutionKernel" in tags else ""
    parts = (series.modality or "Image", f"{size} voxels", voxel, scanner, kernel)
    return ", ".join(part for part in parts if part) + "."


def compose_doubts(findings: Sequence[Finding], draft: Draft) -> tuple[Doubt, ...]:
    """What the model got wrong or left out, and what the experts are not sure of."""
    doubts = [
        Doubt("contradiction" if is_contradiction(reason) else "removed", f"“{text}” - {reason}.")
        for text, reason in draft.removed
    ]
    if draft.omitted:
        text = "The model left out what was measured; these sentences come from the measurements"
        doubts.append(Doubt("omitted", f"{text}: {', '.join(draft.omitted)}.", draft.omitted))
    for finding in findings:
        # A calibrated probability below a half of something reported present: it is more likely not there.
        doubtful = finding.presence == "present" and finding.probability is not None and finding.probability < 0.5
        if finding.presence == "uncertain" or doubtful:
            sure = "" if finding.probability is None else f" (probability {finding.probability:.2f})"
            doubts.append(Doubt("uncertain", f"The expert is not sure{sure}.", (finding.id,)))
    return tuple(doubts)


def guideline_doubts(guidelines: Sequence[Guideline], violated: Sequence[str]) -> tuple[Doubt, ...]:
    """What does not go together under a guideline: in the measurements, and in the words of the model."""
    doubts = [Doubt("guideline", f"{one.title}: {text}.", one.findings) for one in guidelines for text in one.conflicts]
    doubts += [Doubt("guideline", f"The model's text contradicts the guideline: {text}.") for text in violated]
    return tuple(doubts)


def coverage_doubts(exam: Exam, findings: Sequence[Finding]) -> tuple[Doubt, ...]:
    """What a reader expects in such a report and no expert looked at."""
    missing = exam.uncovered(findings)
    if not missing:
        return ()
    return (Doubt("not assessed", f"No expert looked at: {', '.join(missing)}."),)


def indication_section(indication: str) -> Section | None:
    """The indication as it was given, cleaned; it asserts nothing."""
    if not indication:
        return None
    return Section("indication", "Indication", (Sentence(indication, source="notice"),))


def input_doubts(study: Study, used: Sequence[Series]) -> tuple[Doubt, ...]:
    """What the reader of the files left out or repaired, and what the geometry does not allow to say."""
    doubts = []
    for series in used:
        if not series.modality:
            doubts.append(Doubt("input", "The file does not say its modality: give it with --modality (CT, MR, ...)."))
        if not series.volume.calibrated:
            doubts.append(Doubt("geometry", "The pixels are not calibrated: no length, area or volume is reported."))
        if not series.volume.oriented:
            doubts.append(Doubt("geometry", "Left and right are not known: no side is reported."))
        doubts += [Doubt("input", note) for note in series.notes]
    reasons = Counter(skipped.reason.rstrip(".") for skipped in study.skipped)
    for reason, count in reasons.most_common(SKIPPED_SHOWN):
        doubts.append(Doubt("input", f"{count} {'item was' if count == 1 else 'items were'} not used: {reason}."))
    if len(reasons) > SKIPPED_SHOWN:
        doubts.append(Doubt("input", f"{len(reasons) - SKIPPED_SHOWN} further reasons; see 'medvlm study'."))
    return tuple(dict.fromkeys(doubts))


def prior_doubts(prior: Sequence[Finding]) -> tuple[Doubt, ...]:
    """An earlier study that is known by somebody's words only."""
    if not any(finding.provenance == READ_AS_TEXT for finding in prior):
        return ()
    named = ", ".join(Counter(concept_of(finding.concept).text for finding in prior if finding.presence == "present"))
    text = f"The earlier study was read from its text, not from measurements ({named or 'nothing present'}); check it."
    return (Doubt("input", text),)


def abstain(experts: Sequence[ExpertUse]) -> tuple[tuple[Section, ...], tuple[Doubt, ...]]:
    """The sections and doubts of a report that asserts nothing."""
    if experts:
        names = ", ".join(expert.name for expert in experts)
        text = f"None of the installed experts ({names}) applies to this study, so this report asserts nothing."
    else:
        text = "No expert is installed, so this report asserts nothing."
    notice = Sentence(text, source="notice")
    doubts = tuple(Doubt("abstained", f"{expert.name}: {expert.reason.rstrip('.')}.") for expert in experts)
    return (Section("impression", "Impression", (notice,)),), doubts
