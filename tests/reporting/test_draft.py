"""A model writes the report: it is asked in the closed loop, and what it writes is checked."""

import pytest

from medvlm.errors import MedVLMError
from medvlm.reporting import draft
from medvlm.reporting.generate import write_report
from tests.reporting import sample
from tests.reporting.test_generate import expert, study


class Parrot:
    """Stands for a vision-language model: calls the expert, then writes what it was made with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.seen: list = []

    def __call__(self, conversations) -> list[str]:
        return [self.answer(conversation) for conversation in conversations]

    def forget(self) -> None:
        """It keeps nothing."""

    def answer(self, conversation) -> str:
        self.seen.append(conversation)
        return self.text if conversation.turns[-1].role == "expert" else "<CHEST_CT(everything)>"


@pytest.fixture
def parrot(monkeypatch):
    """A writer whose model is a Parrot."""

    def make(text: str) -> Parrot:
        model = Parrot(text)

        def init(self, name: str, device: str = "auto") -> None:
            self.generator, self.name, self.weights = model, name, "12" * 32

        monkeypatch.setattr(draft.VLMWriter, "__init__", init)
        return model

    return make


def test_the_model_sees_a_picture_and_the_findings(parrot, tmp_path):
    model = parrot("No pleural effusion.")
    write_report(study(), [expert()], tmp_path / "out", model="a/model")
    first, last = model.seen
    assert len(first.images) == 1
    assert "right upper lobe, solid, 14 mm" in last.turns[-1].text
    assert not list((tmp_path / "out").glob("seen*"))  # the model's own picture is not part of the report


def test_unsupported_sentences_are_removed_and_shown(parrot, tmp_path):
    parrot("Solid nodule, right upper lobe, 14 mm. Solid nodule, left lower lobe, 9 mm. No pleural effusion.")
    report = write_report(study(), [expert()], tmp_path / "out", model="a/model")
    section = report.section("findings")
    assert section is not None
    assert [(sentence.text, sentence.source) for sentence in section.sentences] == [
        ("Solid nodule, right upper lobe, 14 mm.", "model"),
        ("No pleural effusion.", "model"),
    ]
    assert [doubt.kind for doubt in report.doubts] == ["contradiction", "not assessed"]
    assert "left lower lobe" in report.doubts[0].text
    assert report.method.model == "a/model"
    assert report.method.model_weights == "12" * 32
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("left lower lobe") == 1  # under Doubts, nowhere else


def test_a_finding_that_the_model_left_out_is_added_and_named(parrot, tmp_path):
    parrot("No pleural effusion.")
    report = write_report(study(), [expert()], tmp_path / "out", model="a/model")
    section = report.section("findings")
    assert section is not None
    assert section.sentences[-1].findings == ("nodule-1",)
    assert section.sentences[-1].source == "measurement"
    assert [(doubt.kind, doubt.findings) for doubt in report.doubts][:1] == [("omitted", ("nodule-1",))]


def test_an_unknown_model_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(MedVLMError, match="no-such-model"):
        write_report(study(), [expert()], tmp_path / "out", model="no-such-model")
    assert list(tmp_path.iterdir()) == []


def test_weights_hash_follows_the_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = draft.weights_hash(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert len(first) == 64
    assert draft.weights_hash(tmp_path) != first


def test_draft_without_a_model_has_one_sentence_a_finding():
    made = draft.draft_from_findings([sample.nodule(), sample.no_effusion()])
    assert [sentence.findings for sentence in made.sentences] == [("nodule-1",), ("effusion-1",)]


def test_a_call_in_the_last_words_is_no_sentence():
    made = draft.check_draft("<CHEST_CT(nodules)> No pleural effusion.", [sample.no_effusion()])
    assert [sentence.text for sentence in made.sentences] == ["No pleural effusion."]
    assert made.removed == (("CHEST_CT", "the model called the expert again instead of writing"),)
