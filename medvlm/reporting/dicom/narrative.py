"""The text of a report as Enhanced SR by TID 2000 (PS3.16): what viewers that know no measurements can show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code as DicomCode

from medvlm.reporting.dicom.measurements import observer
from medvlm.reporting.dicom.source import Source
from medvlm.reporting.dicom.stamp import FIRST_SERIES, Stamp, coded, finish, unverified
from medvlm.reporting.report import Report

TITLE = DicomCode("18748-4", "LN", "Diagnostic imaging study")
# CID 7001 (headings) and CID 7002 (elements); (heading, element) of each section of ours.
HEADINGS = {
    "indication": (DicomCode("18785-6", "LN", "Indications"), DicomCode("121071", "DCM", "Finding")),
    "technique": (
        DicomCode("55111-9", "LN", "Current Procedure Descriptions"),
        DicomCode("121065", "DCM", "Procedure Description"),
    ),
    "comparison": (DicomCode("18834-2", "LN", "Previous Findings"), DicomCode("121071", "DCM", "Finding")),
    "findings": (DicomCode("59776-5", "LN", "Findings"), DicomCode("121071", "DCM", "Finding")),
    "impression": (DicomCode("19005-8", "LN", "Impressions"), DicomCode("121073", "DCM", "Impression")),
}
RECOMMENDATIONS = (DicomCode("18783-1", "LN", "Recommendations"), DicomCode("121075", "DCM", "Recommendation"))
CONCLUSIONS = (DicomCode("55110-1", "LN", "Conclusions"), DicomCode("121077", "DCM", "Conclusion"))


def make_narrative(report: Report, sources: Mapping[str, Source]) -> Dataset:
    """The SR object: one container a section, one TEXT item a sentence."""
    import highdicom as hd

    root = hd.sr.ContainerContentItem(name=coded(TITLE), is_content_continuous=False, template_id="2000")
    language = hd.sr.LanguageOfContentItemAndDescendants(
        coded(DicomCode("en-US", "RFC5646", "English (United States)"))
    )
    items: list[Any] = [*language, *(observer(report) if not report.abstained else ())]
    items += [_container(heading, element, texts) for heading, element, texts in _sections(report)]
    root.ContentSequence = hd.sr.ContentSequence(items)
    stamp = Stamp(report)
    object_ = hd.sr.EnhancedSR(
        evidence=[image for source in sources.values() for image in source.images],
        content=root,
        series_instance_uid=stamp.uid("narrative series"),
        series_number=FIRST_SERIES + 2,
        sop_instance_uid=stamp.uid("narrative"),
        instance_number=1,
        series_description="medvlm report (not verified)",
        **unverified(stamp),
    )
    stated = {uid: chosen for source in sources.values() for uid, chosen in source.stated.items()}
    return finish(object_, report, stated)


def _sections(report: Report) -> Iterator[tuple[DicomCode, DicomCode, list[str]]]:
    """Heading, element and texts in the order in which reports are read."""
    for key, (heading, element) in HEADINGS.items():
        section = report.section(key)
        if section is not None and section.sentences:
            yield heading, element, [sentence.text for sentence in section.sentences]
    advice = [
        f"{guideline.title}: {', '.join(f'{name} {value}' for name, value in guideline.decided)}"
        for guideline in report.guidelines
        if guideline.decided
    ]
    if advice:
        yield *RECOMMENDATIONS, advice
    yield *CONCLUSIONS, [report.disclaimer, *(f"Doubt ({doubt.kind}): {doubt.text}" for doubt in report.doubts)]


def _container(heading: DicomCode, element: DicomCode, texts: list[str]) -> Any:
    import highdicom as hd

    contains = hd.sr.RelationshipTypeValues.CONTAINS
    container = hd.sr.ContainerContentItem(name=coded(heading), is_content_continuous=False, relationship_type=contains)
    container.ContentSequence = hd.sr.ContentSequence(
        [hd.sr.TextContentItem(name=coded(element), value=text, relationship_type=contains) for text in texts]
    )
    return container
