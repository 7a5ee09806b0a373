"""One message as Slack writes it -> `MessageRecord`: docs/importers.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw

from importops.importers.slack_authors import ImportIds, author_id, shown_name
from importops.importers.slack_blocks import blocks_text
from importops.importers.slack_days import Batch
from importops.importers.slack_files import count_files, files_of
from importops.importers.slack_markup import Markup
from importops.importers.slack_schema import (
    SlackEdited,
    SlackHead,
    SlackMessage,
    SlackReaction,
    as_text,
    loads,
    microseconds,
)
from importops.records import (
    NAME_LIMIT,
    TEXT_LIMIT,
    Chunk,
    FileRecord,
    MessageRecord,
    repair_text,
)

__all__ = ["Converter", "FindParent", "skip_reason"]

FindParent = Callable[[str, str, str], str]
"""(folder, `ts` of a reply, import id of the parent's author) -> `ts` of the parent, or ''."""

ORDINARY = {
    "",
    "bot_message",
    "file_share",
    "me_message",
    "reply_broadcast",
    "slackbot_response",
    "thread_broadcast",
}
SYSTEM = {
    "channel_join": "uj",
    "group_join": "uj",
    "channel_leave": "ul",
    "group_leave": "ul",
    "channel_topic": "room_changed_topic",
    "group_topic": "room_changed_topic",
    "channel_purpose": "room_changed_description",
    "group_purpose": "room_changed_description",
    "channel_name": "r",
    "group_name": "r",
    "pinned_item": "message_pinned",
}
"""Subtype -> type of the system message. All others that are not ordinary are left out."""

_NO_TEXT = ("", "This content can't be displayed.")
"""What Slack has for `text` where there are only blocks."""
ATTACHMENTS_LIMIT = 100
"""Slack allows as many to a message; and as many fields to an attachment."""
_CONVERTED = ("title", "text", "pretext", "fallback", "footer")
_COPIED = (
    "title_link",
    "author_name",
    "author_icon",
    "color",
    "image_url",
    "thumb_url",
)

_TONE = re.compile(r"::skin-tone-([2-6])(?:-([2-6]))?\Z")
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.:-]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Converter:
    """Turns batches of messages into records, with the names that users and rooms have here."""

    def __init__(
        self,
        usernames: Mapping[str, str],
        room_names: Mapping[str, str],
        find_parent: FindParent,
    ) -> None:
        self._usernames = usernames
        self._markup = Markup(usernames, room_names)
        self._find_parent = find_parent
        self._ids = ImportIds()
        self._repaired = 0
        self._folder = ""

    def add(self, batch: Batch[SlackMessage], chunk: Chunk) -> None:
        """Append what `batch` holds to `chunk`: records, failures, and what is left out."""
        records, name = chunk.records, batch.day.name
        self._folder, self._repaired = batch.day.folder, 0
        follows = -1
        for index, message in zip(batch.indexes, batch.messages, strict=True):
            if (message.type is None or message.type == "message") and (
                not message.subtype or message.subtype in ORDINARY
            ):
                record = self._ordinary(message)
            elif reason := skip_reason(message):
                chunk.skipped[reason] = chunk.skipped.get(reason, 0) + 1
                files = count_files(message)
                chunk.skipped_files += files
                chunk.left_out.append((name, index, reason, files))
                continue
            else:
                record = self._system(message)
            if index != follows:
                chunk.places.append((len(records), name, index))
            follows = index + 1
            records.append(record)
        chunk.failures += batch.failures
        chunk.repaired += self._repaired
        chunk.read += batch.read
        chunk.cursor = batch.next

    def _ordinary(self, message: SlackMessage) -> MessageRecord:
        text, mentions = message.text or "", None
        if len(text) < 40 and message.blocks and text.strip() in _NO_TEXT:
            text = blocks_text(loads(message.blocks))
        if "<" in text or "&" in text or ":" in text:
            text, found = self._markup.convert(text)
            mentions = found or None
        if message.subtype == "me_message":
            text = f"_{text}_"
        thread = ""
        if message.thread_ts is not None:
            if message.thread_ts != message.ts:
                thread = _other_time(message.thread_ts, message.ts)
        elif message.parent_user_id or message.root:
            thread = self._missing_thread(message)
        clean = repair_text(text)
        if clean is not text or len(text) > TEXT_LIMIT:
            clean = self._text(text, TEXT_LIMIT)
        ts, user = message.ts, message.user
        record = MessageRecord(
            ts,
            int(ts.replace(".", "")) if len(ts) == 17 and ts[10] == "." else _sent_at(ts),
            self._ids[user] if user else author_id(message),
            clean,
            "",
            "" if user and not message.username else self._alias(message),
            thread,
        )
        if mentions:
            record.mentions = list(map(self._ids.__getitem__, mentions))
        if message.edited:
            self._edit(record, message.edited)
        if message.attachments:
            record.attachments = self._attachments(message.attachments)
        if message.reactions:
            record.reactions = self._reactions(message.reactions)
        if message.files or message.file:
            record.files = self._files(message)
        return record

    def _edit(self, record: MessageRecord, edited: SlackEdited) -> None:
        record.edited_at = microseconds((edited.ts or "").strip())
        if record.edited_at is not None and edited.user:
            record.edited_by = self._ids[edited.user]

    def _system(self, message: SlackMessage) -> MessageRecord:
        subtype = message.subtype or ""
        text, attachments = "", None
        if subtype.endswith("_topic"):
            text = message.topic or ""
        elif subtype.endswith("_purpose"):
            text = message.purpose or ""
        elif subtype.endswith("_name"):
            text = message.name or ""
        elif subtype == "pinned_item":
            attachments = self._pinned(message)
        return MessageRecord(
            source_id=message.ts,
            sent_at=_sent_at(message.ts),
            author=author_id(message),
            text=self._text(self._markup.plain(text), TEXT_LIMIT),
            type=SYSTEM[subtype],
            reactions=self._reactions(message.reactions or []),
            attachments=attachments,
            files=self._files(message),
        )

    def _text(self, text: str, limit: int) -> str:
        """`text` as it can be stored: repaired, which is counted, and cut."""
        clean = repair_text(text)
        if clean is not text:
            self._repaired += 1
        return clean if len(clean) <= limit else clean[: limit - 1] + "…"

    def _alias(self, message: SlackMessage) -> str:
        """The name that a bot's message shows, where it is not the account's.

        (`username` beside a person's `user` is a remnant of old exports.)
        """
        if message.user and not (message.bot_id or message.subtype == "bot_message"):
            return ""
        shown = self._text(shown_name(message), NAME_LIMIT)
        name = self._usernames.get(author_id(message))
        return "" if shown == name else shown

    def _missing_thread(self, message: SlackMessage) -> str:
        """The thread of a reply that does not tell it itself ('' if it cannot be known)."""
        root = loads(message.root)
        ts = root.get("ts") if isinstance(root, dict) else None
        if isinstance(ts, str) and (thread := _other_time(ts, message.ts)):
            return thread
        if message.parent_user_id:
            return self._find_parent(self._folder, message.ts, message.parent_user_id)
        return ""

    def _reactions(
        self, reactions: list[SlackReaction | None]
    ) -> list[tuple[str, list[str]]] | None:
        """Per emoji, in order, unique: `:wave:`, and with a skin tone `:wave_tone2:`, which is
        how Rocket.Chat names what Slack calls `wave::skin-tone-3`.
        """
        merged: dict[str, dict[str, None]] = {}
        for reaction in reactions:
            if reaction and reaction.name and reaction.users:
                ids = map(self._ids.__getitem__, filter(None, reaction.users))
                merged.setdefault(_emoji(reaction.name), {}).update(dict.fromkeys(ids))
        return [(name, list(ids)) for name, ids in merged.items() if ids] or None

    def _files(self, message: SlackMessage) -> list[FileRecord] | None:
        files = files_of(message)
        for file in files or ():
            file.name = self._text(file.name, NAME_LIMIT)
        return files

    def _attachments(self, raw: Raw) -> list[dict[str, Any]] | None:
        attachments = map(self._attachment, _objects(loads(raw)))
        return [attachment for attachment in attachments if attachment] or None

    def _attachment(self, slack: dict[str, Any]) -> dict[str, Any]:
        """A fixed set of keys, those with a value: texts converted, links and names as they are,
        `ts` as ISO 8601 in UTC, `fields` a list of `title`, `value`, `short`.
        """
        ours = {key: self._converted(slack.get(key)) for key in _CONVERTED}
        if not ours["text"]:
            blocks = slack.get("blocks") or slack.get("message_blocks")
            ours["text"] = self._converted(blocks_text(_inner_blocks(blocks)))
        ours |= {key: self._copied(slack.get(key)) for key in _COPIED}
        ours["title_link"] = ours["title_link"] or self._copied(slack.get("from_url"))
        ours["ts"] = _iso_time(slack.get("ts"))
        fields = [
            {
                "title": self._converted(item.get("title")),
                "value": self._converted(item.get("value")),
                "short": item.get("short") is True,
            }
            for item in _objects(slack.get("fields"))
        ]
        kept: dict[str, Any] = {key: value for key, value in ours.items() if value}
        return kept | {"fields": fields} if fields else kept

    def _pinned(self, message: SlackMessage) -> list[dict[str, Any]] | None:
        for pinned in _objects(loads(message.attachments)):
            attachment = self._attachment(pinned)
            author = self._copied(pinned.get("author_subname"))
            wanted = {
                "text": attachment.get("text") or attachment.get("fallback"),
                "author_name": author or attachment.get("author_name"),
                "author_icon": attachment.get("author_icon"),
            }
            return [{key: value for key, value in wanted.items() if value}]
        return None

    def _converted(self, value: Any) -> str:
        return self._text(self._markup.plain(as_text(value)), TEXT_LIMIT)

    def _copied(self, value: Any) -> str:
        return self._text(as_text(value), TEXT_LIMIT)


def skip_reason(message: SlackHead) -> str:
    """Why `message` is left out (`subtype:bot_add`, `type:…`); '' if it is not."""
    if message.type is not None and message.type != "message":
        return f"type:{_reason_name(message.type)}"
    subtype = message.subtype or ""
    if subtype in ORDINARY or subtype in SYSTEM:
        return ""
    return f"subtype:{_reason_name(subtype)}"


def _reason_name(name: str) -> str:
    return _NOT_A_NAME.sub("_", name[:64])


def _emoji(name: str) -> str:
    name = repair_text(name.strip(":"))[:NAME_LIMIT]
    if tone := _TONE.search(name):
        tones = "".join(f"_tone{int(digit) - 1}" for digit in tone.groups() if digit)
        name = name[: tone.start()] + tones
    return f":{name}:"


def _other_time(ts: str, own: str) -> str:
    """`ts` where it is the `ts` of another message, else ''."""
    ts = ts.strip()
    return ts if ts != own and microseconds(ts) is not None else ""


def _sent_at(ts: str) -> int:
    """The time of a message that was read: `ts` is known to be valid."""
    return microseconds(ts) or 0


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list, as many as are kept."""
    if not isinstance(value, list):
        return []
    return [item for item in value[:ATTACHMENTS_LIMIT] if isinstance(item, dict)]


def _inner_blocks(value: Any) -> Any:
    """An attachment's blocks. `message_blocks` has them inside of a message."""
    if isinstance(value, list):
        return [
            item.get("message", item) if isinstance(item, dict) else item
            for item in value[:ATTACHMENTS_LIMIT]
        ]
    return value


def _iso_time(value: Any) -> str:
    """Slack's time of an attachment, a number or text, for a person; '' when it is none."""
    at = microseconds(as_text(value))
    if at is None:
        return ""
    moment = _EPOCH + timedelta(microseconds=at)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
