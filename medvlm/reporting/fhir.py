"""Write a Report as a FHIR R4 collection bundle: DiagnosticReport, Observations, ImagingStudy, Devices.

Resources are validated by the models of `fhir.resources` (R4B, whose DiagnosticReport, Observation, ImagingStudy,
Device and Provenance-free Bundle are those of R4) before they are written. The report is always `preliminary`.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medvlm.findings.finding import Code, Finding, Measurement
from medvlm.imaging.study import Study
from medvlm.reporting.report import ExpertUse, Report
from medvlm.storage import write_json

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "RADLEX": "http://radlex.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "NCIt": "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
    "MEDVLM": "urn:medvlm:concepts",
}
UCUM = "http://unitsofmeasure.org"
PRESENCE = {
    "present": ("52101004", "Present"),
    "absent": ("272519000", "Absent"),
    "uncertain": ("82334004", "Indeterminate"),
}
LOINC_REPORT = Code("18748-4", "LN", "Diagnostic imaging study")
RADIOLOGY = Code("LP29684-5", "LN", "Radiology")
PROBABILITY = Code("122157", "DCM", "Probability")
GRADE = Code("grade", "MEDVLM", "Grade")
LATERALITY = Code("272741003", "SCT", "Laterality")


def write_fhir(report: Report, folder: Path, study: Study | None = None) -> None:
    """Write `fhir.json`; the PDF is put into it where it is in the folder.

    The patient is named only by the study's pseudonymous key: identity stays in the DICOM objects.

    Raises:
        MedVLMError: the optional package is missing.
    """
    from fhir.resources.R4B.bundle import Bundle

    bundle = make_bundle(report, folder, study)
    Bundle.model_validate(bundle)
    write_json(folder / "fhir.json", bundle)


def make_bundle(report: Report, folder: Path | None = None, study: Study | None = None) -> dict[str, Any]:
    """The bundle as a JSON object."""
    pdf = folder / "report.pdf" if folder is not None else None
    resources = [
        _report(report, pdf if pdf is not None and pdf.is_file() else None),
        *(_observation(report, finding) for finding in report.findings),
        _imaging_study(report),
        *(_device(report, expert) for expert in report.experts if expert.ran),
        {"resourceType": "Patient", "id": _id(report, "patient"), "identifier": [_key(study)]},
    ]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": report.method.created,
        "meta": {"tag": [{"system": "urn:medvlm:status", "code": "research-draft", "display": report.disclaimer}]},
        "entry": [{"fullUrl": f"urn:uuid:{item['id']}", "resource": item} for item in resources],
    }


def _key(study: Study | None) -> dict[str, str]:
    return {"system": "urn:medvlm:patient", "value": study.patient if study is not None else "unknown"}


def _id(report: Report, *what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join((report.study, report.method.created, *what))))


def _reference(report: Report, *what: str) -> dict[str, str]:
    return {"reference": f"urn:uuid:{_id(report, *what)}"}


def _concept(code: Code) -> dict[str, Any]:
    coding = {"code": code.value, "display": code.meaning}
    coding["system"] = SYSTEMS.get(code.scheme, f"urn:medvlm:{code.scheme}")
    return {"coding": [coding], "text": code.meaning}


def _quantity(row: Measurement) -> dict[str, Any]:
    return {"value": round(row.value, 4), "unit": row.unit, "system": UCUM, "code": row.unit}


def _report(report: Report, pdf: Path | None) -> dict[str, Any]:
    impression = report.section("impression")
    present = [finding for finding in report.findings if finding.presence == "present"]
    resource: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "id": _id(report, "report"),
        "status": "preliminary",
        "category": [_concept(RADIOLOGY)],
        "code": _concept(LOINC_REPORT) | {"text": report.title},
        "subject": _reference(report, "patient"),
        "issued": report.method.created,
        "imagingStudy": [_reference(report, "study")],
        "conclusion": "\n".join([*(s.text for s in (impression.sentences if impression else ())), report.disclaimer]),
    }
    if report.findings:
        resource["result"] = [_reference(report, "finding", finding.id) for finding in report.findings]
    if present:
        resource["conclusionCode"] = [_concept(code) for code in dict.fromkeys(f.concept for f in present)]
    if pdf is not None:
        data = base64.b64encode(pdf.read_bytes()).decode("ascii")
        resource["presentedForm"] = [{"contentType": "application/pdf", "data": data, "title": report.disclaimer}]
    return resource


def _observation(report: Report, finding: Finding) -> dict[str, Any]:
    value, meaning = PRESENCE[finding.presence]
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": _id(report, "finding", finding.id),
        "identifier": [{"system": "urn:medvlm:finding", "value": finding.id}],
        "status": "preliminary",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}]}
        ],
        "code": _concept(finding.concept),
        "subject": _reference(report, "patient"),
        "effectiveDateTime": report.method.created,
        "valueCodeableConcept": _concept(Code(value, "SCT", meaning)),
        "derivedFrom": [_reference(report, "study")],
    }
    if any(expert.ran and expert.name == finding.provenance.expert for expert in report.experts):
        resource["device"] = _reference(report, "device", finding.provenance.expert)
    if finding.site is not None:
        resource["bodySite"] = _concept(finding.site)
    components = list(_components(finding))
    if components:
        resource["component"] = components
    return resource


def _components(finding: Finding) -> Iterator[dict[str, Any]]:
    for row in finding.measurements:
        yield {"code": _concept(row.code), "valueQuantity": _quantity(row)}
    if finding.probability is not None:
        yield {
            "code": _concept(PROBABILITY),
            "valueQuantity": _quantity(Measurement(PROBABILITY, finding.probability, "1")),
        }
    if finding.laterality is not None:
        yield {"code": _concept(LATERALITY), "valueCodeableConcept": _concept(finding.laterality)}
    if finding.grade:
        yield {"code": _concept(GRADE), "valueString": finding.grade}


def _imaging_study(report: Report) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "id": _id(report, "study"),
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{report.study}"}],
        "subject": _reference(report, "patient"),
    }
    series = [
        {
            "uid": one.uid.partition("/")[0],
            "modality": {"system": SYSTEMS["DCM"], "code": one.modality or "OT"},
        }
        for one in report.series
    ]
    if series:
        resource["series"] = list({one["uid"]: one for one in series}.values())
    return resource


def _device(report: Report, expert: ExpertUse) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "Device",
        "id": _id(report, "device", expert.name),
        "manufacturer": "medvlm",
        "deviceName": [{"name": expert.name, "type": "model-name"}],
        "version": [{"value": expert.version}],
    }
    if expert.weights:
        resource["identifier"] = [{"system": "urn:medvlm:weights:sha256", "value": expert.weights}]
    return resource
