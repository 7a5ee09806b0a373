"""Who wrote a message: an account, a bot, or nobody."""

from __future__ import annotations

from importops.importers.slack_schema import SlackHead, as_text, loads
from importops.records import (
    IMPORT_ID_LIMIT,
    NAME_LIMIT,
    SYSTEM_BOT,
    AuthorRecord,
    repair_text,
)

__all__ = ["ImportIds", "author_id", "author_record", "import_id_of", "shown_name"]

_CACHED_IDS = 100_000


class ImportIds(dict[str, str]):
    """A user's id in Slack -> import id. Few users write most messages, so it remembers."""

    def __missing__(self, user: str) -> str:
        import_id = import_id_of(user)
        if len(user) <= IMPORT_ID_LIMIT:
            if len(self) >= _CACHED_IDS:
                self.clear()
            self[user] = import_id
        return import_id


def import_id_of(user: str) -> str:
    """The import id of Slack's `user`; Slackbot is the built-in bot everywhere."""
    return SYSTEM_BOT if user == "USLACKBOT" else repair_text(user)[:IMPORT_ID_LIMIT]


def author_id(message: SlackHead) -> str:
    """Import id of who wrote `message`: user, else bot, else a bot known by its name only, else who
    commented on a file, else the built-in bot.
    """
    if message.user or message.bot_id:
        return import_id_of(message.user or message.bot_id or "")
    if message.username:
        return import_id_of(f"bot:{message.username}")
    if message.comment and message.comment.user:
        return import_id_of(message.comment.user)
    return SYSTEM_BOT


def shown_name(message: SlackHead) -> str:
    """The name that a message of a bot shows."""
    if message.username:
        return message.username
    bot = loads(message.bot_profile)
    if isinstance(bot, dict) and (name := as_text(bot.get("name"))):
        return name
    return _profile_names(message)[1]


def author_record(message: SlackHead) -> AuthorRecord:
    """What `message` tells about its author."""
    username, name = _profile_names(message)
    # What an app posts for a person has a bot_id too, but that person's profile.
    is_bot = (
        not message.user or message.subtype == "bot_message" or bool(message.bot_id and not name)
    )
    if is_bot:
        name = shown_name(message) or name
    username = username or (name if is_bot else message.username or "")
    return AuthorRecord(
        import_id=author_id(message),
        username=repair_text(username)[:NAME_LIMIT],
        name=repair_text(name)[:NAME_LIMIT],
        type="bot" if is_bot else "user",
    )


def _profile_names(message: SlackHead) -> tuple[str, str]:
    """Username and name in the profile that a message carries."""
    profile = loads(message.user_profile)
    if not isinstance(profile, dict):
        return "", ""
    username = as_text(profile.get("name"))
    name = profile.get("real_name") or profile.get("display_name")
    return username, as_text(name)
