"""From and to a PACS: a real Orthanc, killed on the way, asked twice, with a password, over TLS."""

import dataclasses
import shutil
import threading
import time

import numpy as np
import pydicom
import pytest

from medvlm.errors import MedVLMError
from medvlm.imaging.reader import load_study
from medvlm.reporting.dicom.measurements import read_measurements
from medvlm.reporting.pacs.address import Credentials, is_address, parse_address
from medvlm.reporting.pacs.retry import Retries, Temporary, keep_trying
from medvlm.reporting.pacs.transfer import open_source, open_target, report_objects
from medvlm.reporting.pacs.web import WebPacs
from tests.reporting import dicom_inputs
from tests.reporting.orthanc import MISSING, Orthanc, behind_tls, make_certificates
from tests.reporting.reading import BlockExpert, report_of

pytest.importorskip("dicomweb_client", reason="needs medvlm-specialist[pacs]")
pytest.importorskip("highdicom", reason="needs medvlm-specialist[dicom]")
QUICK = Retries(12, 0.2, 1.0)


def test_addresses_are_read():
    web = parse_address("dicomweb://pacs:8042/dicom-web")
    assert (web.url, web.web, web.secure) == ("http://pacs:8042/dicom-web", True, False)
    assert parse_address("dicomwebs://pacs/dicom-web").url == "https://pacs:443/dicom-web"
    peer = parse_address("dicom://ARCHIVE@pacs")
    assert (peer.title, peer.port, peer.web) == ("ARCHIVE", 104, False)
    assert is_address("dicomweb://pacs")
    assert not is_address("/data/study")


@pytest.mark.parametrize("text", ["http://pacs", "dicomweb://", "dicom://pacs:104", "dicomweb://me:secret@pacs", "x"])
def test_a_wrong_address_is_one_sentence_without_the_password(text):
    with pytest.raises(MedVLMError) as error:
        parse_address(text)
    assert "secret" not in str(error.value)


def test_credentials_are_not_printed():
    assert "secret" not in repr(Credentials(user="me", password="secret"))


def test_a_temporary_failure_is_tried_again_and_then_told():
    failures = iter([Temporary("away"), Temporary("away"), None])

    def action():
        failure = next(failures)
        if failure:
            raise failure
        return 7

    assert keep_trying(action, "PACS", Retries(3, 0.0)) == 7

    def never():
        raise Temporary("away")

    with pytest.raises(MedVLMError, match=r"PACS: away \(2 attempts\)"):
        keep_trying(never, "PACS", Retries(2, 0.0))


@pytest.fixture
def server(tmp_path):
    made = Orthanc(tmp_path / "orthanc").start()
    yield made
    made.stop()


def fill(server, tmp_path):
    source = dicom_inputs.write_slices(tmp_path / "in")
    files = sorted(source.iterdir())
    assert open_target(server.web, Credentials(), QUICK).store(files) == len(files)
    return str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), files


@pytest.mark.slow
@pytest.mark.skipif(MISSING, reason="Orthanc is not installed")
def test_round_trip_fetch_report_store_query_equal(server, tmp_path):
    study, files = fill(server, tmp_path)
    pacs = open_source(server.web, Credentials(), QUICK)
    assert pacs.fetch(study, tmp_path / "got") == len(files)
    assert pacs.fetch(study, tmp_path / "got") == 0
    report = report_of(load_study(tmp_path / "got"), tmp_path / "out", ("pdf", "dicom"))
    objects = report_objects(tmp_path / "out")
    assert pacs.store(objects) == len(objects)
    assert pacs.store(objects) == 0
    modalities = sorted(modality for _, _, modality in pacs.instances(study))
    assert modalities.count("CT") == len(files)
    assert {"SEG", "SR", "DOC", "KEY"} <= set(modalities)
    assert pacs.fetch(study, tmp_path / "got") == 0  # reports are not taken for images
    for file in objects:
        sent = pydicom.dcmread(file)
        back = pacs.client.retrieve_instance(
            study, sent.SeriesInstanceUID, sent.SOPInstanceUID, media_types=(("application/dicom", "*"),)
        )
        assert back == sent, file.name
        if file.name == "sr.dcm":
            assert [f.id for f in read_measurements(back)] == [f.id for f in report.findings]
        if file.name == "pdf.dcm":
            assert (
                back.EncapsulatedDocument[: back.EncapsulatedDocumentLength]
                == (tmp_path / "out" / "report.pdf").read_bytes()
            )


@pytest.mark.slow
@pytest.mark.skipif(MISSING, reason="Orthanc is not installed")
def test_a_server_killed_on_the_way_gets_everything_once(server, tmp_path, monkeypatch):
    study, files = fill(server, tmp_path)
    report_of(load_study(tmp_path / "in"), tmp_path / "out", ("pdf", "dicom"))
    objects = list(report_objects(tmp_path / "out"))
    pacs = open_target(server.web, Credentials(), QUICK)
    plain, sent = pacs._store, []

    def store(dataset):
        if len(sent) == 2:
            sent.append(None)
            server.kill()
            threading.Timer(1.0, server.start).start()
        plain(dataset)
        sent.append(dataset.SOPInstanceUID)

    monkeypatch.setattr(pacs, "_store", store)
    assert pacs.store(objects) == len(objects)
    assert server.count() == len(files) + len(objects)
    # A whole new run, as after a crash of ours, sends nothing twice.
    again = open_target(server.web, Credentials(), QUICK)
    assert again.store(objects) == 0
    assert server.count() == len(files) + len(objects)
    # The same while fetching.
    got = tmp_path / "got"
    getting = open_source(server.web, Credentials(), QUICK)
    retrieve, calls = getting.client.retrieve_instance, []

    def slow(*arguments, **options):
        calls.append(1)
        if len(calls) == 4:
            server.kill()
            threading.Timer(1.0, server.start).start()
        return retrieve(*arguments, **options)

    monkeypatch.setattr(getting.client, "retrieve_instance", slow)
    assert getting.fetch(study, got) == len(files)
    assert len(list(got.iterdir())) == len(files)
    time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.skipif(MISSING, reason="Orthanc is not installed")
def test_c_store_sends_and_sends_again_without_a_second_copy(server, tmp_path):
    report_of(load_study(dicom_inputs.write_slices(tmp_path / "in")), tmp_path / "out", ("pdf", "dicom"))
    objects = report_objects(tmp_path / "out")
    target = open_target(f"dicom://ORTHANC@localhost:{server.dicom}", Credentials(), QUICK)
    for _ in range(2):
        assert target.store(objects) == len(objects)
        assert server.count() == len(objects)
    server.stop()
    absent = open_target(f"dicom://ORTHANC@localhost:{server.dicom}", Credentials(), Retries(2, 0.1))
    with pytest.raises(MedVLMError, match="no association"):
        absent.store(objects)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server that knows one user and wants to see a certificate, its address over TLS, and the certificates."""
    if MISSING or not shutil.which("openssl"):
        pytest.skip("Orthanc or openssl is not installed")
    folder = tmp_path_factory.mktemp("guarded")
    certificates = make_certificates(folder / "pem")
    made = Orthanc(folder / "orthanc", {"me": "secret"}, certificates).start()
    with behind_tls(made, certificates) as address:
        yield made, address, certificates
    made.stop()


@pytest.mark.slow
def test_dicomweb_over_tls_with_password_and_certificate(guarded, tmp_path):
    _, address, pem = guarded
    files = sorted(dicom_inputs.write_slices(tmp_path / "in").iterdir())[:2]
    study = str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
    pacs = WebPacs(parse_address(address), Credentials("me", "secret", "", pem.authority, pem.client), QUICK)
    assert pacs.store(files) == 2
    assert pacs.fetch(study, tmp_path / "got") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"password": "wrong"}, "access denied"),
        ({"user": "", "password": ""}, "access denied"),
        ({"authority": None}, "certificate is not trusted"),
        ({"certificate": None}, "no connection|not trusted"),  # which of both, the versions of TLS tell differently
    ],
)
def test_what_is_missing_for_tls_is_told_without_the_secret(guarded, tmp_path, wrong, said):
    _, address, pem = guarded
    files = sorted(dicom_inputs.write_slices(tmp_path / "in").iterdir())[:1]
    right = Credentials("me", "secret", "", pem.authority, pem.client)
    target = open_target(address, dataclasses.replace(right, **wrong), Retries(2, 0.1))
    with pytest.raises(MedVLMError, match=said) as refused:
        target.store(files)
    assert "wrong" not in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.slow
def test_a_certificate_of_another_host_is_not_trusted(guarded, tmp_path):
    _, address, pem = guarded
    elsewhere = address.replace("localhost", "127.0.0.1")
    files = sorted(dicom_inputs.write_slices(tmp_path / "in").iterdir())[:1]
    with pytest.raises(MedVLMError, match="certificate is not trusted"):
        open_target(elsewhere, Credentials("me", "secret", "", pem.authority, pem.client), QUICK).store(files)


@pytest.mark.slow
def test_c_store_over_tls(guarded, tmp_path):
    server, _, pem = guarded
    files = sorted(dicom_inputs.write_slices(tmp_path / "in", "MR").iterdir())[:2]
    address = f"dicoms://ORTHANC@localhost:{server.dicom}"
    right = Credentials(authority=pem.authority, certificate=pem.client)
    assert open_target(address, right, QUICK).store(files) == 2
    for wrong in (dataclasses.replace(right, authority=None), dataclasses.replace(right, certificate=None)):
        with pytest.raises(MedVLMError, match="no association"):
            open_target(address, wrong, Retries(2, 0.1)).store(files)


@pytest.mark.slow
@pytest.mark.skipif(MISSING, reason="Orthanc is not installed")
def test_the_command_fetches_reports_and_sends(server, tmp_path, medvlm_command, monkeypatch):
    study, files = fill(server, tmp_path)
    monkeypatch.setattr("medvlm.reporting.generate.open_experts", lambda names, device: ([BlockExpert()], ()))
    out = tmp_path / "out"
    done = medvlm_command("report", "--study", study, "--from", server.web, "--to", server.web, "--out", out)
    assert done.code == 0, done.err
    assert "IMPRESSION" in done.out
    assert not (out / "incoming").exists()
    assert server.count() == len(files) + len(report_objects(out))
    watched = medvlm_command(
        "report", "--watch", server.web, "--to", server.web, "--out", tmp_path / "w", "--passes", 3, "--interval", 0.1
    )
    assert watched.out.count("reported") == 1
    assert np.all([(tmp_path / "w" / f"study-{study}" / "report.json").is_file()])
