"""The files that messages carry. Slack keeps the contents; an export has their addresses."""

from __future__ import annotations

from collections.abc import Iterator

from importops.importers.slack_schema import SlackFile, SlackHead
from importops.records import IMPORT_ID_LIMIT, NAME_LIMIT, FileRecord, repair_text

__all__ = ["count_files", "files_of"]


def files_of(message: SlackHead) -> list[FileRecord] | None:
    """The files that `message` carries, each once."""
    if not message.files and not message.file:
        return None
    records: dict[str, FileRecord] = {}
    for source_id, file in _identified(message):
        if source_id not in records:
            records[source_id] = _file_record(file, source_id)
    return list(records.values()) or None


def count_files(message: SlackHead) -> int:
    """How many files `files_of` gives."""
    return len({source_id for source_id, _ in _identified(message)})


def _identified(message: SlackHead) -> Iterator[tuple[str, SlackFile]]:
    """Files with their ids; one without gets an id from its position."""
    for number, file in enumerate([*(message.files or ()), message.file], 1):
        if file is not None:
            source_id = file.id or f"{message.ts}-file{number}"
            yield repair_text(source_id)[:IMPORT_ID_LIMIT], file


def _file_record(file: SlackFile, source_id: str) -> FileRecord:
    external = file.is_external is True or file.mode == "external"
    url = (not external and file.url_private_download) or file.url_private or ""
    if file.mode == "tombstone":
        url, problem = "", "deleted in Slack"
    elif file.mode == "hidden_by_limit":
        url, problem = "", "hidden by the source workspace's plan limit"
    else:
        problem = "" if url else "no link in the export"
    return FileRecord(
        source_id=source_id,
        name=file.name or file.title or "",
        size=_size(file.size),
        mime_type=repair_text(file.mimetype or "")[:NAME_LIMIT],
        url=repair_text(url),
        external=external,
        problem=problem,
    )


def _size(size: int | float | None) -> int:
    return int(size) if size and 0 < size < 2**63 else 0
