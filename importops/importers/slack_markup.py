"""Slack's message markup ("mrkdwn") -> our text.

Bold, italic, code and the like are written the same in both and pass through. What changes is what
Slack puts in angle brackets (mentions, links, dates), the three entities, and a few emoji names:
docs/importers.md. https://api.slack.com/reference/surfaces/formatting
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from importops.records import SYSTEM_BOT

__all__ = ["Markup", "date_text", "escape"]

_EMOJI = re.compile(r":(?:simple_smile|memo|piggy|uk|:skin-tone-[2-6]):")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]")
_EMOJI_NAMES = {
    ":simple_smile:": ":smile:",
    ":memo:": ":pencil:",
    ":piggy:": ":pig:",
    ":uk:": ":gb:",
    # `:wave::skin-tone-3:` is `:wave_tone2:` here, in text as in reactions.
    **{f"::skin-tone-{n}:": f"_tone{n - 1}:" for n in range(2, 7)},
}
_BROADCASTS = {
    "everyone": "all",
    "channel": "all",
    "group": "all",
    "here": "here",
}
_URL_ESCAPED, _LABEL_ESCAPED = re.compile(r"[() \n]"), re.compile(r"[\[\]\n]")
_URL_ESCAPES = str.maketrans({"(": "%28", ")": "%29", " ": "%20", "\n": "%0A"})
_LABEL_ESCAPES = str.maketrans({"[": "\\[", "]": "\\]", "\n": " "})
_CACHED_TAGS, _CACHED_LENGTH = 65_536, 255


class Markup:
    """Converts texts, with the names that users and rooms have in `usernames` and `room_names`
    (by import id). A name is asked for once, and may be asked for lazily.
    """

    def __init__(self, usernames: Mapping[str, str], room_names: Mapping[str, str]) -> None:
        self._usernames = usernames
        self._room_names = room_names
        self._reference = lru_cache(_CACHED_TAGS)(self._resolve_reference)

    def convert(self, text: str) -> tuple[str, list[str]]:
        """Our text, and whom it mentions: import ids of users, `all` and `here`, in order, unique.

        A text without markup comes back as the same object. Takes any text and never raises.

        1. Cut at the tags, once. What a tag or an entity gives is not looked at again, so that a
           literal `&lt;http://x&gt;` never becomes a link; and as Slack escapes angle brackets
           inside of tags, none spans another. (Splitting is twice as fast as one expression.)
        2. Convert tags, and what is between them.
        """
        has_more = "&" in text or ":" in text
        if "<" not in text:
            return _plain(text) if has_more else text, []
        first, *pieces = text.split("<")
        converted = [_plain(first) if has_more else first]
        mentions: list[str] = []
        for piece in pieces:
            body, closed, rest = piece.partition(">")
            if closed and body:
                converted.append(self._tag(body, mentions))
                converted.append(_plain(rest) if has_more else rest)
            else:
                converted.append(f"<{_plain(piece)}")
        if len(mentions) > 1:
            mentions = list(dict.fromkeys(mentions))
        return "".join(converted), mentions

    def plain(self, text: str) -> str:
        """Our text, without the mentions."""
        return self.convert(text)[0]

    def _tag(self, body: str, mentions: list[str]) -> str:
        if body[0] not in "@#!":
            return _link(body)
        if len(body) <= _CACHED_LENGTH:
            text, mention = self._reference(body)
        else:
            text, mention = self._resolve_reference(body)
        if mention:
            mentions.append(mention)
        return text

    def _resolve_reference(self, body: str) -> tuple[str, str]:
        """What `<body>` stands for, and the import id that it mentions ('' if none)."""
        sigil = body[0]
        target, _, label = body[1:].partition("|")
        label = _decode(label).strip()
        if not target or target.isspace():
            return _verbatim(body), ""
        if sigil == "@":
            if target == "USLACKBOT":
                target = SYSTEM_BOT
                label = SYSTEM_BOT
            name = self._usernames.get(target) or label.removeprefix("@") or target
            return f"@{name}", target
        if sigil == "#":
            name = self._room_names.get(target) or label.removeprefix("#") or target
            return f"#{name}", ""
        return _special(target, label, body)


def _special(target: str, label: str, body: str) -> tuple[str, str]:
    """`<!target|label>`: its text, and the word that it mentions."""
    if broadcast := _BROADCASTS.get(target):
        return f"@{broadcast}", broadcast
    command, *arguments = target.split("^")
    if command == "subteam":
        group = label.removeprefix("@") or (arguments or [""])[0]
        return (f"@{group}" if group else _verbatim(body)), ""
    if command == "date" and not label and arguments:
        return date_text(arguments[0]) or _verbatim(body), ""
    return label or _verbatim(body), ""


def _link(body: str) -> str:
    """`<body>` where body is a URL, with or without a label; anything else stays as it is.

    Addresses and phone numbers that Slack found by itself are labelled with themselves.
    """
    url, _, label = body.partition("|")
    if not _URL.match(url):
        return _verbatim(body)
    url, label = _decode(url), _plain(label)
    if url.startswith(("mailto:", "tel:")):
        address = url.partition(":")[2]
        if label in ("", address):
            return address
    if not label:
        return url
    if _LABEL_ESCAPED.search(label):
        label = label.translate(_LABEL_ESCAPES)
    if _URL_ESCAPED.search(url):
        url = url.translate(_URL_ESCAPES)
    return f"[{label}]({url})"


def _verbatim(body: str) -> str:
    return f"<{_decode(body)}>"


def _plain(text: str) -> str:
    """`text` outside of tags: entities and emoji names; the same object when it has none."""
    text = _decode(text)
    return _EMOJI.sub(_emoji, text) if text.count(":") > 1 else text


def _emoji(match: re.Match[str]) -> str:
    return _EMOJI_NAMES[match[0]]


def _decode(text: str) -> str:
    """`text` without entities; `&amp;lt;` is a literal `&lt;`, so the ampersand comes last."""
    if "&" not in text:
        return text
    return text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")


def date_text(seconds: str) -> str:
    """The moment `seconds` after the epoch for a person to read; '' when it is none."""
    try:
        moment = datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def escape(text: str) -> str:
    """Plain `text` as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
