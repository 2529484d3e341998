"""The text of a report: verbalised from Findings, or written by a model and checked sentence by sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from medvlm.content import list_content
from medvlm.dialogue.trigger import format_trigger, parse_triggers
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import sentence, verbalise
from medvlm.imaging.view import overview
from medvlm.reporting.repair import repairs
from medvlm.reporting.report import Revision, Sentence
from medvlm.reporting.support import check_sentence, concepts_in, split_sentences

if TYPE_CHECKING:
    from medvlm.reporting.read_study import Reading

DEFAULT_QUESTION = "Write the report of this scan."


@dataclass(frozen=True)
class Draft:
    """Sentences with their support.

    Attributes:
        sentences: what may be said.
        removed: sentence of the model → why nothing supports it.
        omitted: ids of Findings that are there and that the model did not mention; their sentences are added.
        revisions: what the corrected mode changed.
    """

    sentences: tuple[Sentence, ...]
    removed: tuple[tuple[str, str], ...] = ()
    omitted: tuple[str, ...] = ()
    revisions: tuple[Revision, ...] = ()


# What `check_sentence` says of a sentence that an expert's measurement denies; other reasons mean "nobody measured it".
_DENIED = (
    "an expert found",
    "the expert did not find",
    "nothing was found at",
    "it counts",
    "the grade differs",
    "the amount differs",
    "the sides differ",
    "the expert measured another",
    "the expert is not sure",
    "a number",
)
Rewrite = Callable[[str, str, Sequence[Finding]], str]
Choose = Callable[[str, str, Sequence[Finding], Sequence[str]], str]


def is_contradiction(reason: str) -> bool:
    """The sentence was not only unsupported: a measurement says otherwise."""
    return reason.startswith(_DENIED)


def draft_from_findings(findings: Sequence[Finding]) -> Draft:
    """One sentence a Finding."""
    return Draft(tuple(Sentence(sentence(finding), (finding.id,)) for finding in findings))


def check_draft(text: str, findings: Sequence[Finding]) -> Draft:
    """Keep the sentences of a model's text that Findings support, name the others, add what it left out."""
    kept: list[Sentence] = []
    removed: list[tuple[str, str]] = []
    mentioned: set[str] = set()
    for trigger in parse_triggers(text):
        text = text.replace(format_trigger(trigger), " ")
        removed.append((trigger.name, "the model called the expert again instead of writing"))
    for written in dict.fromkeys(split_sentences(text)):
        support = check_sentence(written, findings)
        if support.findings:
            kept.append(Sentence(written, support.findings, "model"))
            mentioned.update(support.asserted)
        else:
            removed.append((written, support.reason))
    omitted = [f for f in findings if f.presence != "absent" and f.id not in mentioned]
    kept += [Sentence(sentence(finding), (finding.id,)) for finding in omitted]
    return Draft(tuple(kept), tuple(removed), tuple(finding.id for finding in omitted))


def correct_draft(
    draft: Draft, findings: Sequence[Finding], rewrite: Rewrite, choose: Choose | None = None, tries: int = 2
) -> Draft:
    """Have the sentences that contradict a measurement written again; what stays wrong is said by the measurement.

    First the model writes freely; then its own sentence is held to what was measured, and it chooses among the ways.

    Args:
        draft: checked sentences.
        findings: of the study.
        rewrite: `(sentence, reason, findings) -> new text`, by the model.
        choose: `(sentence, reason, findings, ways) -> one of them`, by the model; None: the first.
        tries: how often the model may try one sentence.
    """
    kept, removed, revisions = list(draft.sentences), [], []
    omitted = list(draft.omitted)
    for text, reason in draft.removed:
        if not is_contradiction(reason):
            removed.append((text, reason))
            continue
        made, last, about = None, reason, concepts_in(text, findings)
        for _ in range(tries):
            for written in split_sentences(rewrite(text, last, findings)):
                support = check_sentence(written, findings)
                # Another true sentence, about something else, is no correction.
                if support.findings and concepts_in(written, findings) & about:
                    made = Sentence(written, support.findings, "model")
                    break
                last = support.reason
            if made is not None:
                break
        source: Literal["model", "constrained"] = "model"
        if made is None and (ways := repairs(text, findings)):
            chosen = choose(text, reason, findings, ways) if choose is not None and len(ways) > 1 else ways[0]
            made, source = Sentence(chosen, check_sentence(chosen, findings).findings, "model"), "constrained"
        if made is None:
            # The sentences of what was left out are in the draft already, from the measurements.
            by_measurement = [one.text for one in kept if set(one.findings) & set(omitted)]
            replaced = " ".join(by_measurement)
            revisions.append(Revision(text, reason, replaced, "measurement" if replaced else "nothing"))
            removed.append((text, reason))
            continue
        revisions.append(Revision(text, reason, made.text, source))
        kept = [one for one in kept if one.source == "model" or not set(one.findings) <= set(made.findings)]
        omitted = [name for name in omitted if name not in made.findings]
        if made.text not in {one.text for one in kept}:
            kept.append(made)
    return Draft(tuple(kept), tuple(removed), tuple(omitted), tuple(revisions))


class VLMWriter:
    """A vision-language model that is asked for a report and may call the experts.

    Attributes:
        name: how the model is named in the report: a hub id, or the last two parts of a folder.
        weights: SHA-256 of the folder's safetensors files, `""` for a hub id.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        """
        Raises:
            MedVLMError: no such model, or it cannot be loaded.
        """
        from medvlm.experts.infer import choose_device
        from medvlm.models.generate import Generator
        from medvlm.models.load import load_model

        loaded = load_model(model, device=choose_device(device))
        # What the first turn computed of the picture and the question serves the second one.
        self.generator = Generator(loaded, max_new_tokens=256, reuse=True)
        folder = Path(model).expanduser()
        self.name = "/".join(folder.resolve().parts[-2:]) if folder.is_dir() else model
        self.weights = weights_hash(folder) if folder.is_dir() else ""

    def write_many(self, readings: Sequence[Reading]) -> list[str]:
        """Ask for the reports in the closed loop, all of them side by side; no expert runs again.

        The model sees the overview of the series that the first expert read, in the size it was trained on.

        Args:
            readings: each with at least one result.
        """
        from medvlm.dialogue.loop import Case, Desk, ask_many, open_conversation

        with TemporaryDirectory(prefix="medvlm-") as folder:
            desk = Desk({expert.card.name: expert for one in readings for expert in one.experts}.values())  # type: ignore[arg-type]
            cases = []
            for number, one in enumerate(readings):
                key = f"{number}"
                for result in one.results:
                    desk.remember(result.expert, {key: result.findings})
                picture = Path(folder) / f"seen-{number}.png"
                overview(one.study.find_series(one.results[0].series)).save(picture)
                question = report_question([expert.card.name for expert in one.experts])
                cards = [expert.card for expert in one.experts]
                cases.append(Case(open_conversation(question, [str(picture)], cards), key))
            try:
                return [conversation.turns[-1].text for conversation in ask_many(cases, self.generator, desk)]
            finally:
                self.generator.forget()

    def rewrite(self, sentence: str, reason: str, findings: Sequence[Finding]) -> str:
        """Ask for a sentence that agrees with the measurements."""
        from medvlm.dialogue.loop import open_conversation

        measured = verbalise(findings, "short")
        question = (
            f"{measured}\nThis sentence is wrong ({reason}): {sentence} Write it so that it agrees with the findings."
        )
        return str(self.generator.answer(open_conversation(question, [], [])))

    def choose(self, sentence: str, reason: str, findings: Sequence[Finding], ways: Sequence[str]) -> str:
        """One of several sentences: the likeliest after the same question, decoded so that nothing else can come."""
        from medvlm.dialogue.loop import open_conversation
        from medvlm.models.generate import Generator

        measured = verbalise(findings, "short")
        question = f"{measured}\nThis sentence is wrong ({reason}): {sentence} Which is right?"
        held = Generator(self.generator.loaded, max_new_tokens=self.generator.max_new_tokens, choices=ways)
        said = held.answer(open_conversation(question, [], []))
        return next((way for way in ways if way.strip() == said.strip()), ways[0])


def report_question(experts: Sequence[str]) -> str:
    """How the curriculum of one of these experts asks for a report; a plain request where none does."""
    from medvlm.dialogue.questions import read_questions

    for folder in list_content("curricula").values():
        if not (folder / "questions.yaml").is_file():
            continue
        questions = read_questions(folder)
        reports = [family for family in questions.families if family.sentences]
        if reports and questions.expert in experts:
            return reports[0].train[0]
    return DEFAULT_QUESTION


def weights_hash(folder: Path) -> str:
    """SHA-256 over the safetensors files of a model folder, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
