"""What happens to a message that is already there.

It changes only when the incoming one was edited later, or brings reactions or a thread that were not
known: a union. So the order in which two exports, or two slices, meet does not matter, and the same
export twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from importops.engine.rows import MessageRow, reactions_json


@dataclass(slots=True)
class Existing:
    """A message in the database, with the columns that merging may change."""

    id: int
    operation_id: int | None
    text: str
    thread_source_id: str
    edited_at: str | None
    edited_by: str
    reactions: str
    mentions: str
    attachments: str
    changed: bool = False


def merge(there: Existing, incoming: MessageRow) -> bool:
    """Bring what `incoming` knows better into `there`; whether anything changed."""
    changed = False
    if incoming.edited_at is not None and (
        there.edited_at is None or incoming.edited_at > there.edited_at
    ):
        there.text = incoming.text
        there.edited_at, there.edited_by = incoming.edited_at, incoming.edited_by
        there.mentions, there.attachments = incoming.mentions, incoming.attachments
        changed = True
    if incoming.thread_source_id and not there.thread_source_id:
        there.thread_source_id = incoming.thread_source_id
        changed = True
    if incoming.reactions not in ("{}", there.reactions):
        united = unite_reactions(there.reactions, incoming.reactions)
        if united != there.reactions:
            there.reactions = united
            changed = True
    there.changed = there.changed or changed
    return changed


def unite_reactions(one: str, other: str) -> str:
    """Every emoji and every user of both, in the text form that rows are written in."""
    united: dict[str, set[str]] = {}
    for reactions in (msgspec.json.decode(one), msgspec.json.decode(other)):
        for name, reaction in reactions.items():
            united.setdefault(name, set()).update(reaction["usernames"])
    return reactions_json(united.items())
