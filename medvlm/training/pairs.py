"""Preference pairs from the model's own conversations, without another language model.

The model answers; the pathway finds the answers that are wrong; exactly those are edited into the right wording that is
nearest to what the model wrote (the idea of OPA-DPO, Yang et al., arXiv 2501.09695): in words that it used itself for
another picture where there are such, because to prefer words that it never says teaches little else. Beside them, right
answers are set against the same words beside another picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from medvlm.dialogue.conversation import Conversation, Turn
from medvlm.pathways.dialogues import read_truth
from medvlm.pathways.phrasings import answers
from medvlm.pathways.reward import Scorer
from medvlm.pathways.spec import Symbol
from medvlm.training.preference import Pair
from medvlm.training.rollouts import Sample, Script

RIGHT = 1.0 - 1e-9


def answer_pairs(samples: Sequence[Sample], scorer: Scorer) -> Iterator[Pair]:
    """One pair for each sampled conversation with a wrong answer; only the turns that differ count.

    A conversation that says the same as an earlier one of its script is left out.

    Args:
        samples: conversations that the model wrote, with the symbols of the pathway.
        scorer: of the pathway.
    """
    seen: set[tuple[str, ...]] = set()
    words: dict[str, dict[str, None]] = defaultdict(dict)
    for sample in samples:
        for slot, answer in zip(sample.script.conversation.symbols["asked"], sample.answers, strict=True):
            words[slot][answer] = None
    for sample in samples:
        key = (sample.script.conversation.id, *sample.answers)
        if key in seen:
            continue
        seen.add(key)
        right = corrected(sample, scorer, words)
        if right != sample.answers:
            chosen, rejected = (_written(sample.script, said) for said in (right, sample.answers))
            differs = [one != other for one, other in zip(right, sample.answers, strict=True)]
            yield Pair("answer", _only(chosen, differs), _only(rejected, differs))


def picture_pairs(
    scripts: Sequence[Script], kind: str, pictures: Sequence[str | None], slots: Collection[str] = ()
) -> Iterator[Pair]:
    """The right answers beside the right picture, against the same beside another one.

    Args:
        scripts: conversations with their right answers.
        kind: `blank`, `shuffled` or a change of `negatives.py`, for the record.
        pictures: the other picture of each script; where there is none, there is no pair.
        slots: whose answers the other picture makes wrong; only they count. None named: all.
    """
    for script, other in zip(scripts, pictures, strict=True):
        row = script.conversation
        count = [not slots or slot in slots for slot in row.symbols.get("asked", ())]
        if other is None or (slots and not any(count)):
            continue
        shown = tuple(replace(turn, images=tuple(other for _ in turn.images)) for turn in row.turns)
        both = row, replace(row, turns=shown)
        better, worse = (_only(one, count) for one in both) if slots else both
        yield Pair(kind, better, worse)


def corrected(sample: Sample, scorer: Scorer, words: Mapping[str, Iterable[str]]) -> list[str]:
    """The sample's answers with every wrong one replaced by the nearest right wording.

    Args:
        sample: one conversation.
        scorer: of the pathway.
        words: slot → answers that the model gave, right or wrong for whom they were given; the pathway's own phrasings
            serve where none of them says what is true.
    """
    symbols = sample.script.conversation.symbols
    truth = read_truth(scorer.pathway, symbols["truth"], sample.script.conversation.id)
    asked = zip(symbols["asked"], symbols["questions"], sample.answers, strict=True)
    return [_right(slot, question, answer, truth[slot], scorer, words) for slot, question, answer in asked]


def _right(
    name: str, question: str, answer: str, symbol: Symbol, scorer: Scorer, words: Mapping[str, Iterable[str]]
) -> str:
    slot = scorer.pathway.slot(name)

    def fits(text: str) -> bool:
        return scorer.grade(name, scorer.parser.read(text, slot, question), symbol)[0] >= RIGHT

    if fits(answer):
        return answer
    fitting = list(filter(fits, words.get(name, ()))) or list(filter(fits, answers(scorer.pathway, slot, symbol)))
    return max(fitting, key=lambda text: SequenceMatcher(None, answer, text, autojunk=False).ratio())


def _written(script: Script, said: Sequence[str]) -> Conversation:
    """The script's conversation with these answers."""
    turns: list[Turn] = []
    for turns_of, answer in zip(script.asked, said, strict=True):
        turns += [*turns_of, Turn("assistant", answer)]
    return replace(script.conversation, turns=tuple(turns))


def _only(conversation: Conversation, count: Sequence[bool]) -> Conversation:
    """The same with only some of its answers to be learnt."""
    number = -1
    turns = []
    for turn in conversation.turns:
        if turn.role == "assistant":
            number += 1
            turn = replace(turn, train=count[number])
        turns.append(turn)
    return replace(conversation, turns=tuple(turns))
