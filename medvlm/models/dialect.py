"""What a model's chat template and processor can and cannot write, found out by asking them.

Published templates differ in ways that matter for training: some write no end token (a model tuned with them never
stops), some refuse a system turn beside an image or drop it, some open a "thinking" block only when a reply is asked
for, and PaliGemma has none. All that is found by rendering a few words once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from medvlm.errors import MedVLMError

# PaliGemma reads "images, <bos>, prefix, newline, suffix". Images come first, so they are no part of the template.
PREFIX_TEMPLATE = """\
{%- for message in messages -%}
{%- for part in message['content'] -%}{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}{%- endfor -%}
{{- eos_token if message['role'] == 'assistant' else '\\n' -}}
{%- endfor -%}
"""
MARK = "qqmarkqq"
Message = dict[str, Any]


@dataclass(frozen=True)
class Dialect:
    """How conversations are written for one processor.

    Attributes:
        template: chat template to use instead of the processor's own; None: its own.
        takes_system: a system turn can be written beside an image; otherwise it goes before the first user turn.
        closing: what must be added to an assistant's text because the template ends it with nothing.
        stop: the token that ends an assistant turn.
        own_prompt: the template's generation prompt is how assistant turns of the past begin, too.
        prefix: the processor writes `<bos>` behind the images and a newline at the end, and the model sees what comes
            before the first answer in both directions (PaliGemma).
    """

    template: str | None
    takes_system: bool
    closing: str
    stop: str
    own_prompt: bool
    prefix: bool


def dialect_of(processor: Any, name: str, control: list[str]) -> Dialect:
    """Ask a processor how it writes.

    Args:
        processor: of a vision-language model.
        name: how errors call the model.
        control: all control tokens of its tokenizer.

    Raises:
        MedVLMError: it has no chat template, and none is known for it.
    """
    prefix = type(processor).__name__ == "PaliGemmaProcessor"
    own = getattr(processor, "chat_template", None) or processor.tokenizer.chat_template
    if not own and not prefix:
        raise MedVLMError(f"{name}: its processor has no chat template; choose an instruction-tuned model.")
    template = None if own else PREFIX_TEMPLATE
    asked = [_message("user", "a", picture=True)]
    said = [*asked, _message("assistant", MARK)]
    through = render(processor, said, name, template)
    prompt = render(processor, asked, name, template, add_generation_prompt=True)
    tail = through[through.rindex(MARK) + len(MARK) :]
    ends = [token for token in control if token and token in tail]
    stop = min(ends, key=tail.index) if ends else str(processor.tokenizer.eos_token)
    return Dialect(
        template=template,
        takes_system=_takes_system(processor, template),
        closing="" if ends else stop,
        stop=stop,
        own_prompt=through.startswith(prompt),
        prefix=prefix,
    )


def render(processor: Any, messages: list[Message], name: str, template: str | None = None, **options: Any) -> str:
    """The text of messages.

    Raises:
        MedVLMError: the template refuses them.
    """
    try:
        return str(processor.apply_chat_template(messages, chat_template=template, tokenize=False, **options))
    except Exception as error:  # templates raise jinja2 errors of many kinds
        raise MedVLMError(f"{name}: its chat template refuses the conversation ({error}).") from error


def fold_system(messages: list[Message]) -> list[Message]:
    """The same messages, a leading system turn put before the text of the first user turn."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":
        return messages
    words = "\n".join(part["text"] for part in messages[0]["content"] if part["type"] == "text")
    content = [dict(part) for part in messages[1]["content"]]
    first = next(part for part in content if part["type"] == "text")
    first["text"] = f"{words}\n\n{first['text']}"
    return [{"role": "user", "content": content}, *messages[2:]]


def begin_reply(processor: Any, messages: list[Message], name: str, dialect: Dialect) -> str:
    """The text up to where the assistant's next words begin."""
    if dialect.own_prompt:
        return render(processor, messages, name, dialect.template, add_generation_prompt=True)
    text = render(processor, [*messages, _message("assistant", MARK)], name, dialect.template)
    return text[: text.rindex(MARK)]


def _takes_system(processor: Any, template: str | None) -> bool:
    messages = [_message("system", MARK), _message("user", "a", picture=True)]
    try:
        return MARK in render(processor, messages, "", template)
    except MedVLMError:
        return False


def _message(role: str, text: str, picture: bool = False) -> Message:
    parts = [{"type": "image"}] if picture else []
    return {"role": role, "content": [*parts, {"type": "text", "text": text}]}
