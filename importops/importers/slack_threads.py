"""Replies that do not say which thread they are in: old exports give only the parent's author
(`parent_user_id`); the parent then lists its replies.
"""

from __future__ import annotations

from importops.importers.slack_authors import import_id_of
from importops.importers.slack_days import DayReader
from importops.importers.slack_layout import Layout
from importops.importers.slack_schema import SlackMessage, loads

__all__ = ["ParentFinder"]

MAX_REPLIES = 300_000
"""Replies of one room that are remembered, about 60 MB; with more, the rest stay without thread."""


class ParentFinder:
    """Finds parents by what they list. The first question about a room reads the room once; the
    answers depend on the export alone, not on where reading began.
    """

    def __init__(self, layout: Layout, reader: DayReader[SlackMessage]) -> None:
        self._layout = layout
        self._reader = reader
        self._folder = ""
        self._parents: dict[tuple[str, str], str] = {}

    def find(self, folder: str, ts: str, parent_user: str) -> str:
        """`ts` of the one message by `parent_user` that lists `ts` among its replies, else ''."""
        if folder != self._folder:
            self._parents = {}
            self._read(folder)
            self._folder = folder
        return self._parents.get((ts, import_id_of(parent_user)), "")

    def _read(self, folder: str) -> None:
        for day in self._layout.days_of(folder):
            for batch in self._reader.batches(day):
                for message in batch.messages:
                    if message.replies:
                        self._add(message)
            if len(self._parents) >= MAX_REPLIES:
                break

    def _add(self, parent: SlackMessage) -> None:
        author = import_id_of(parent.user or parent.bot_id or "")
        replies = loads(parent.replies)
        for reply in replies if isinstance(replies, list) else ():
            ts = reply.get("ts") if isinstance(reply, dict) else None
            if isinstance(ts, str) and ts != parent.ts:
                known = self._parents.setdefault((ts, author), parent.ts)
                if known != parent.ts:
                    self._parents[ts, author] = ""
