"""Text of Slack's Block Kit, for messages whose `text` is empty (most apps leave it so).

Comes out as Slack's own markup, which `slack_markup` then converts like any other text.
https://api.slack.com/reference/block-kit/blocks
"""

from __future__ import annotations

from typing import Any

from importops.importers.slack_markup import date_text, escape
from importops.records import TEXT_LIMIT

__all__ = ["blocks_text"]

_MAX_DEPTH = 24
"""Honest blocks are at most eight deep (a list in a rich text in a table)."""
_MAX_NODES = 20_000
_MAX_INDENT = 8
_DIALOGS = ("confirm", "placeholder")
"""Parts of buttons and menus that nobody saw unless they used them."""
_STYLES = (("code", "`"), ("strike", "~"), ("italic", "_"), ("bold", "*"))


def blocks_text(blocks: Any) -> str:
    """Markup of `blocks`, any JSON value; '' where it holds no text. Never raises.

    What is deeper than honest blocks, or comes after some 20,000 elements, is left out.
    """
    return _Blocks().lines(blocks, 0, "\n")[:TEXT_LIMIT]


class _Blocks:
    """One walk over a message's blocks; counts what it has seen, to stay bounded."""

    def __init__(self) -> None:
        self._nodes_left = _MAX_NODES
        self._text_left = TEXT_LIMIT

    def lines(self, nodes: Any, depth: int, separator: str) -> str:
        """The texts of a list of nodes, those without text left out."""
        if not isinstance(nodes, list):
            nodes = [nodes]
        texts = []
        for node in nodes:
            if self._nodes_left <= 0 or self._text_left <= 0:
                break
            texts.append(self._node(node, depth))
        return separator.join(filter(None, texts))

    def _node(self, node: Any, depth: int) -> str:
        self._nodes_left -= 1
        if depth > _MAX_DEPTH:
            return ""
        if isinstance(node, list):
            return self.lines(node, depth + 1, "\n")
        if not isinstance(node, dict):
            return ""
        match node.get("type"):
            case "rich_text_section":
                return self._elements(node, depth, "")
            case "rich_text_list":
                return self._list(node, depth)
            case "rich_text_quote":
                quoted = self._elements(node, depth, "").rstrip("\n")
                return "\n".join(f"&gt; {line}" for line in quoted.split("\n"))
            case "rich_text_preformatted":
                return f"```\n{self._elements(node, depth, '')}\n```"
            case "context":
                return self._elements(node, depth, " ")
            case "divider":
                return "---"
            case "image":
                return self._image(node)
            case "plain_text" | "raw_text":
                return self._take(escape(_string(node, "text")))
            case "mrkdwn" | "markdown":
                return self._take(_string(node, "text"))
            case _:
                return self._inline(node) or self._other(node, depth)

    def _elements(self, node: dict[str, Any], depth: int, separator: str) -> str:
        return self.lines(node.get("elements", []), depth + 1, separator)

    def _list(self, node: dict[str, Any], depth: int) -> str:
        items = node.get("elements")
        indent = "    " * min(_count(node, "indent"), _MAX_INDENT)
        number = _count(node, "offset")
        lines = []
        for item in items if isinstance(items, list) else []:
            text = self._node(item, depth + 1)
            number += 1
            mark = f"{number}." if node.get("style") == "ordered" else "•"
            if text:
                lines.append(f"{indent}{mark} {text}")
        return "\n".join(lines)

    def _image(self, node: dict[str, Any]) -> str:
        title = node.get("title")
        text = _string(title, "text") if isinstance(title, dict) else ""
        text = text or _string(node, "alt_text") or "image"
        return self._take(_link(_string(node, "image_url"), text))

    def _inline(self, node: dict[str, Any]) -> str:
        """An element inside of a rich text; '' when it is none."""
        match node.get("type"):
            case "text":
                text = escape(_string(node, "text"))
            case "link":
                text = _link(_string(node, "url"), _string(node, "text"))
            case "user":
                text = _tag("@", node, "user_id")
            case "channel":
                text = _tag("#", node, "channel_id")
            case "usergroup":
                text = _tag("!subteam^", node, "usergroup_id")
            case "broadcast":
                text = _tag("!", node, "range")
            case "emoji":
                text = _emoji(node)
            case "date":
                text = _date(node)
            case "color":
                text = escape(_string(node, "value"))
            case _:
                return ""
        return self._take(_styled(text, node.get("style")))

    def _other(self, node: dict[str, Any], depth: int) -> str:
        """Whatever else there is: any text in it, in the order it stands."""
        texts = []
        for key, value in node.items():
            if key == "text" and isinstance(value, str):
                texts.append(self._take(escape(value)))
            elif isinstance(value, dict | list) and key not in _DIALOGS:
                texts.append(self._node(value, depth + 1))
        return "\n".join(filter(None, texts))

    def _take(self, text: str) -> str:
        text = text[: max(0, self._text_left)]
        self._text_left -= len(text)
        return text


def _string(node: dict[str, Any], key: str) -> str:
    value = node.get(key)
    return value if isinstance(value, str) else ""


def _count(node: dict[str, Any], key: str) -> int:
    value = node.get(key)
    return value if isinstance(value, int) and 0 <= value < 1_000_000 else 0


def _tag(sigil: str, node: dict[str, Any], key: str) -> str:
    target = _string(node, key)
    return f"<{sigil}{escape(target)}>" if target else ""


def _link(url: str, label: str) -> str:
    if not url:
        return escape(label)
    url = escape(url).replace("|", "%7C")
    return f"<{url}|{escape(label)}>" if label else f"<{url}>"


def _emoji(node: dict[str, Any]) -> str:
    name, tone = _string(node, "name"), _count(node, "skin_tone")
    if tone and "::" not in name:
        name = f"{name}::skin-tone-{tone}"
    return f":{escape(name)}:" if name else ""


def _date(node: dict[str, Any]) -> str:
    fallback, seconds = _string(node, "fallback"), node.get("timestamp")
    if not fallback and isinstance(seconds, int) and abs(seconds) < 10**12:
        return date_text(str(seconds))
    return escape(fallback)


def _styled(text: str, style: Any) -> str:
    """`text` between the marks of its styles, which must touch a letter to count as marks."""
    core = text.strip()
    if not core or not isinstance(style, dict):
        return text
    marked = core
    for name, mark in _STYLES:
        if style.get(name) is True:
            marked = f"{mark}{marked}{mark}"
    return text.replace(core, marked, 1)
