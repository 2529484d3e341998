"""Findings in, turns out: what a model reads about experts before it asks, and what it is given when it has asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medvlm.dialogue.conversation import Turn
from medvlm.dialogue.trigger import Trigger, format_trigger, sanitize
from medvlm.experts.card import ExpertCard
from medvlm.findings.finding import Finding
from medvlm.findings.verbalise import Style, verbalise

CountTokens = Callable[[str], int]


def count_words(text: str) -> int:
    """A rough count of tokens for models whose tokenizer is not at hand."""
    return len(text.split())


def short_card(cards: Sequence[ExpertCard]) -> str:
    """The experts in one line, as short as can be: `experts: <CHEST_CT(nodules|effusion|heart)>`."""
    return "experts: " + " ".join(f"<{card.trigger_name}({'|'.join(card.arguments)})>" for card in cards)


def long_card(cards: Sequence[ExpertCard]) -> str:
    """The experts in full, for models that read well: what each is for, how good it is and what it cannot do."""
    lines = ["These expert models can be called:"]
    for card in cards:
        lines.append(f"<{card.trigger_name}(argument)> {_clean(card.summary)}.")
        lines.append(
            f"  modality: {', '.join(card.modality)}; body part: {', '.join(card.body_part)}; task: {card.task}"
        )
        for argument, gives in card.arguments.items():
            lines.append(f"  {argument}: {_clean(gives)}")
        if card.accuracy:
            lines.append("  accuracy: " + ", ".join(f"{name} {value:.2f}" for name, value in card.accuracy.items()))
        if card.limits:
            lines.append(f"  limits: {_clean(card.limits)}.")
    example = format_trigger(Trigger(cards[0].trigger_name, next(iter(cards[0].arguments), ""))) if cards else ""
    lines.append(f"To call one, write only its name and argument, for example {example}, then wait for its findings.")
    return "\n".join(lines)


def system_turn(cards: Sequence[ExpertCard], style: str = "short") -> tuple[Turn, ...]:
    """The turn that shows the experts (`short` or `long`); no turn where there are none."""
    if not cards:
        return ()
    return (Turn("system", long_card(cards) if style == "long" else short_card(cards)),)


def expert_turn(
    trigger: Trigger,
    findings: Sequence[Finding],
    style: Style = "short",
    images: Sequence[str] = (),
    budget: int | None = None,
    count_tokens: CountTokens = count_words,
) -> Turn:
    """What an expert says: its name, then its Findings.

    Args:
        trigger: the call that is answered.
        findings: the Findings that the argument asks for.
        style: `short` (fewest tokens), `long` (sentences, hedged by calibrated probability), `table` or `json`.
        images: pictures of the findings, shown before the text.
        budget: most tokens; lines that do not fit are left out from the end and their number is said.
        count_tokens: counts tokens of the model that will read it.
    """
    lines = [f"{trigger.name}:", *verbalise(findings, style).splitlines()]
    kept = len(lines)
    text = "\n".join(lines)
    while budget is not None and kept > 1 and count_tokens(text) > budget:
        kept -= 1
        text = "\n".join([*lines[:kept], f"({len(lines) - kept} more lines)"])
    return Turn("expert", text, tuple(images))


def second_opinion(trigger: Trigger) -> Trigger:
    """The name under which another expert answers the same call."""
    return Trigger(f"{trigger.name}_2", trigger.argument)


def error_turn(trigger: Trigger, reason: str) -> Turn:
    """What a model reads when a call gave nothing: one sentence it can act on."""
    return Turn("expert", f"{trigger.name}: error: {_clean(reason)}.")


def check_trigger(trigger: Trigger, cards: Sequence[ExpertCard]) -> str:
    """Why a call cannot be answered (unknown expert or argument), or `""`; an empty argument asks for everything."""
    for card in cards:
        if card.trigger_name == trigger.name:
            if not trigger.argument or trigger.argument in card.arguments:
                return ""
            return f"no argument {trigger.argument}, choose {', '.join(card.arguments)}"
    known = ", ".join(card.trigger_name for card in cards)
    return f"no such expert, choose {known}" if known else "no expert is available"


def _clean(text: str) -> str:
    """Text of a bundle made safe for a prompt, without its last full stop."""
    return sanitize(" ".join(text.split())).rstrip(".")
