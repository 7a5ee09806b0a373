"""Another name for somebody in what messages say: reactions, mentions, editors, and `@name` in texts.

JSON columns hold names, never keys of ours, so they have to be rewritten where a name changes its owner.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from django.db import connection
from django.db.models import Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, StrIndex

from importops.engine.rows import reactions_json
from importops.models import Message

_UPDATE = """
    UPDATE importops_message SET text = %s, edited_by = %s, reactions = %s, mentions = %s
    WHERE id = %s
"""


@dataclass(frozen=True)
class Renaming:
    old: str
    new: str

    @cached_property
    def _in_text(self) -> re.Pattern[str]:
        # Not where a longer name begins with this one (`@ann-1`, `@ann.lee`); a full stop may follow.
        return re.compile(rf"@{re.escape(self.old)}(?![\w-]|\.\w)")

    def find(self, messages: QuerySet[Message]) -> QuerySet[Message]:
        """Those of `messages` in which the old name may stand; without an index, so only within a stretch."""
        # Whoever wrote the column, non-ASCII may stand in it as it is or escaped.
        forms = {msgspec.json.encode(self.old).decode(), json.dumps(self.old)}
        places = {
            f"{column}_at_{number}": StrIndex(Cast(column, TextField()), Value(form))
            for column in ("reactions", "mentions")
            for number, form in enumerate(sorted(forms))
        }
        found = Q(edited_by=self.old)
        for name in places:
            found |= Q(**{f"{name}__gt": 0})
        return messages.alias(**places).filter(found)

    def apply(self, messages: list[Message]) -> set[int]:
        """Rewrite and store them; the keys of those that changed."""
        changed = [message for message in messages if self._rewrite(message)]
        with connection.cursor() as cursor:
            cursor.executemany(_UPDATE, [_row(message) for message in changed])
        return {message.pk for message in changed}

    def _rewrite(self, message: Message) -> bool:
        before = (message.text, message.edited_by, message.reactions, message.mentions)
        if message.edited_by == self.old:
            message.edited_by = self.new
        message.reactions = {
            name: {**reaction, "usernames": sorted(set(map(self._renamed, reaction["usernames"])))}
            for name, reaction in message.reactions.items()
        }
        if any(self._is_of_user(mention) for mention in message.mentions):
            message.text = self._in_text.sub(lambda _: f"@{self.new}", message.text)
            message.mentions = self._mentions(message.mentions)
        return before != (message.text, message.edited_by, message.reactions, message.mentions)

    def _renamed(self, name: str) -> str:
        return self.new if name == self.old else name

    def _is_of_user(self, mention: dict[str, Any]) -> bool:
        return mention.get("type", "user") == "user" and mention.get("username") == self.old

    def _mentions(self, mentions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Each named once, also when both names stood there."""
        renamed: list[dict[str, Any]] = []
        for mention in mentions:
            if self._is_of_user(mention):
                name = self._renamed(mention.get("name", ""))
                mention = {**mention, "username": self.new, "name": name}
            if mention not in renamed:
                renamed.append(mention)
        return renamed


def _row(message: Message) -> tuple[Any, ...]:
    """In the form that the writers store, so that the same import again finds it unchanged."""
    return (
        message.text,
        message.edited_by,
        reactions_json((name, set(r["usernames"])) for name, r in message.reactions.items()),
        msgspec.json.encode(message.mentions).decode(),
        message.pk,
    )
