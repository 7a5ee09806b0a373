"""Stored contents whose rows are gone: deleted after the commit, and counted exactly once.

A batch commits the names with its checkpoint; they are deleted after that, and the next batch counts
them. A process that is killed in between finds them in its cursor again, and a content that is not there
any more is no error.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from django.core.files.storage import default_storage

from importops.engine.slices import Batch, Work
from importops.engine.undo_report import CONTENT_LEFT
from importops.errors import MustWait
from importops.records import BadRecord

logger = logging.getLogger(__name__)


class Content(NamedTuple):
    """One stored content: the kind of record that it counts for, a place to name it by, its name in storage."""

    kind: Any
    counted_as: str
    place: str
    name: str


class Contents:
    def __init__(self, waiting: list[list[str]]) -> None:
        """`waiting` as a cursor has it."""
        self._waiting = [Content(*item) for item in waiting]
        self._fresh: list[Content] = []
        self._left: list[tuple[Content, Exception]] = []

    def delete_waiting(self, work: Work) -> None:
        """Delete what the last commit let go of; before the next batch. Raises `MustWait` when the
        storage is away: the names stand in the cursor, and are deleted when it is back."""
        self._fresh, self._left = [], []
        if self._waiting:
            with work.kept_alive():  # a storage far away takes its time for each
                self._delete()

    def _delete(self) -> None:
        for content in self._waiting:
            try:
                default_storage.delete(content.name)
            except MustWait:
                raise
            except Exception as error:
                # Storages raise what they like, and one content must not keep the rest from going.
                logger.exception("%s cannot be deleted from storage", content.name)
                self._left.append((content, error))

    def settle(self, batch: Batch) -> None:
        """Count what `delete_waiting` did, in the batch that commits it."""
        left = {content for content, _ in self._left}
        for content in self._waiting:
            if content not in left:
                batch.add(f"{content.counted_as}.removed")
        for content, error in self._left:
            batch.add(f"{content.counted_as}.failed")
            batch.failures.append(
                BadRecord(
                    kind=content.kind,
                    place=content.place,
                    code=CONTENT_LEFT,
                    message=f"The content {content.name} could not be deleted from storage: {error}",
                )
            )

    def add(self, content: Content) -> None:
        """To be deleted once the batch at hand is committed."""
        self._fresh.append(content)

    def cursor(self) -> list[list[str]]:
        """What the checkpoint of the batch at hand has to remember."""
        return [list(content) for content in self._fresh]

    def committed(self) -> None:
        self._waiting = self._fresh

    def finish(self, work: Work, position: list[Any]) -> None:
        """Delete and count the last ones; `position` is the cursor without them."""
        if not self._waiting:
            return
        self.delete_waiting(work)
        with work.batch() as batch:
            self.settle(batch)
            batch.cursor = [*position, []]
        self.committed()
