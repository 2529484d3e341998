"""Conversations: the schema, triggers, injection of findings, questions, and the ask-run-answer loop."""

from medvlm.dialogue.conversation import (
    Conversation,
    Role,
    Turn,
    read_conversations,
    write_conversations,
)
from medvlm.dialogue.trigger import Trigger, format_trigger, parse_triggers, sanitize

__all__ = [
    "Conversation",
    "Role",
    "Trigger",
    "Turn",
    "format_trigger",
    "parse_triggers",
    "read_conversations",
    "sanitize",
    "write_conversations",
]
