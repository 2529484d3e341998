"""Conversations: the schema, triggers, injection of findings, questions, and the ask-run-answer loop."""

from medvlm.dialogue.conversation import (
    Conversation,
    Role,
    Turn,
    iterate_conversations,
    read_conversations,
    write_conversations,
)
from medvlm.dialogue.store import ConversationSet, open_conversations
from medvlm.dialogue.trigger import Trigger, format_trigger, parse_triggers, sanitize

__all__ = [
    "Conversation",
    "ConversationSet",
    "Role",
    "Trigger",
    "Turn",
    "format_trigger",
    "iterate_conversations",
    "open_conversations",
    "parse_triggers",
    "read_conversations",
    "sanitize",
    "write_conversations",
]
