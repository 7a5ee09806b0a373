from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from importops.importers.slack_blocks import blocks_text
from importops.importers.slack_markup import Markup

USERS = {"U1": "ann", "U2": "bob.b", "W3": "carol", "rocket.cat": "rocket.cat"}
ROOMS = {"C1": "general", "C2": "dev-ops_2.0"}


def convert(text: str) -> str:
    return Markup(USERS, ROOMS).convert(text)[0]


def mentions(text: str) -> list[str]:
    return Markup(USERS, ROOMS).convert(text)[1]


@pytest.mark.parametrize(
    ("slack", "ours"),
    [
        ("<!everyone> <!channel> <!group>", "@all @all @all"),
        ("<!here>", "@here"),
        ("<!here|here> <!channel|channel> <!everyone|@everyone>", "@here @all @all"),
        ("a &lt; b &amp;&amp; c &gt; d", "a < b && c > d"),
        ("&amp;lt;", "&lt;"),
        (":simple_smile::memo: :piggy: :uk:", ":smile::pencil: :pig: :gb:"),
        (":wave::skin-tone-3:", ":wave_tone2:"),
        ("10:30 memo: :memory:", "10:30 memo: :memory:"),
        ("<https://a.example/x?a=1&amp;b=2>", "https://a.example/x?a=1&b=2"),
        ("<https://a.example|the site>", "[the site](https://a.example)"),
        ("<https://a.example|>", "https://a.example"),
        ("<https://a.example|a &amp; b>", "[a & b](https://a.example)"),
        ("<https://a.example|[JIRA-1] x>", r"[\[JIRA-1\] x](https://a.example)"),
        ("<https://a.example/x_(y)|x>", "[x](https://a.example/x_%28y%29)"),
        ("<mailto:ann@a.example|ann@a.example>", "ann@a.example"),
        ("<mailto:ann@a.example>", "ann@a.example"),
        ("<mailto:ann@a.example|Ann>", "[Ann](mailto:ann@a.example)"),
        ("<tel:+3112345|+3112345>", "+3112345"),
        ("<#C1|old-name>", "#general"),
        ("<#C1|> <#C1>", "#general #general"),
        ("<#C2>", "#dev-ops_2.0"),
        ("<#C9|elsewhere> <#C9>", "#elsewhere #C9"),
        ("<@U1> <@U1|label>", "@ann @ann"),
        ("<@U9|zoe> <@U9|@zoe> <@U9>", "@zoe @zoe @U9"),
        ("<@USLACKBOT>", "@rocket.cat"),
        ("<!subteam^S1|@ops>", "@ops"),
        ("<!subteam^S1|ops> <!subteam^S1>", "@ops @S1"),
        ("<!date^1392734382^{date}^https://x.example|Feb 18>", "Feb 18"),
        ("<!date^1392734382^{date}>", "2014-02-18 14:39 UTC"),
        ("<!unknown|label>", "label"),
        ("<!unknown> <div> <> < a", "<!unknown> <div> <> < a"),
        ("*bold* _it_ ~no~ `code`", "*bold* _it_ ~no~ `code`"),
        ("", ""),
    ],
)
def test_it_converts(slack: str, ours: str) -> None:
    assert convert(slack) == ours


def test_an_escaped_literal_is_no_link_and_no_mention() -> None:
    text = "&lt;http://a.example|x&gt; &lt;@U1&gt; &lt;!here&gt;"
    assert Markup(USERS, ROOMS).convert(text) == (
        "<http://a.example|x> <@U1> <!here>",
        [],
    )


def test_an_escaped_literal_beside_a_tag_stays_literal() -> None:
    text = "<@U1> &lt;@U2&gt; <https://a.example> &lt;https://b.example|b&gt; &amp;lt;"
    expected = "@ann <@U2> https://a.example <https://b.example|b> &lt;"
    assert Markup(USERS, ROOMS).convert(text) == (expected, ["U1"])


def test_a_tag_ends_at_its_own_bracket() -> None:
    assert convert("<@U1> and <#C1> and <@U2>|x>") == "@ann and #general and @bob.b|x>"
    assert convert("1 < 2 <@U1>") == "1 < 2 @ann"
    assert convert("<<@U1>>") == "<@ann>"


def test_mentions_come_from_the_tags_wherever_they_stand() -> None:
    text = '(<@U2>) "<@U1>":x *<@W3>*,<@U1>/<!here> <!channel|channel> @U7 <@USLACKBOT>'
    assert mentions(text) == ["U2", "U1", "W3", "here", "all", "rocket.cat"]


def test_a_user_without_an_account_is_mentioned_too() -> None:
    assert mentions("<@U9|zoe>") == ["U9"]


def test_a_text_without_markup_stays_the_same_object() -> None:
    text = "nothing to see: here" * 3
    assert Markup(USERS, ROOMS).convert(text)[0] is text


def test_a_name_may_hold_what_looks_like_markup() -> None:
    assert Markup({"U1": "<@U2>&lt;"}, {}).convert("<@U1> &amp;")[0] == "@<@U2>&lt; &"


@given(st.text(alphabet="<>@#!|&;:^ltgamp/UC1]\n ", max_size=60) | st.text())
def test_it_takes_any_text(text: str) -> None:
    converted, mentioned = Markup(USERS, ROOMS).convert(text)
    assert isinstance(converted, str)
    assert len(mentioned) == len(set(mentioned))


def rich(*elements: dict[str, Any], kind: str = "rich_text_section") -> dict[str, Any]:
    return {
        "type": "rich_text",
        "elements": [{"type": kind, "elements": list(elements)}],
    }


def text(value: str, **style: bool) -> dict[str, Any]:
    return {"type": "text", "text": value, **({"style": style} if style else {})}


def of_blocks(*blocks: Any) -> str:
    return convert(blocks_text(list(blocks)))


@pytest.mark.parametrize(
    ("block", "ours"),
    [
        (
            rich(text("a < b & "), text("bold ", bold=True), text("c")),
            "a < b & *bold* c",
        ),
        (rich(text("x", italic=True, code=True)), "_`x`_"),
        (rich({"type": "user", "user_id": "U1"}), "@ann"),
        (rich({"type": "channel", "channel_id": "C1"}), "#general"),
        (rich({"type": "usergroup", "usergroup_id": "S1"}), "@S1"),
        (rich({"type": "broadcast", "range": "channel"}), "@all"),
        (rich({"type": "emoji", "name": "memo"}), ":pencil:"),
        (rich({"type": "emoji", "name": "wave", "skin_tone": 3}), ":wave_tone2:"),
        (
            rich({"type": "link", "url": "https://a.example?a&b"}),
            "https://a.example?a&b",
        ),
        (
            rich({"type": "link", "url": "https://a.example", "text": "x|y"}),
            "[x|y](https://a.example)",
        ),
        (rich({"type": "date", "timestamp": 0, "fallback": "today"}), "today"),
        (rich({"type": "date", "timestamp": 0}), "1970-01-01 00:00 UTC"),
        (rich({"type": "color", "value": "#ff0000"}), "#ff0000"),
        (rich(text("one\ntwo"), kind="rich_text_quote"), "> one\n> two"),
        (rich(text("x <= 1"), kind="rich_text_preformatted"), "```\nx <= 1\n```"),
        (
            {"type": "section", "text": {"type": "mrkdwn", "text": "*a* <@U1> &lt;"}},
            "*a* @ann <",
        ),
        (
            {
                "type": "section",
                "fields": [
                    {"type": "mrkdwn", "text": "a"},
                    {"type": "plain_text", "text": "<b>"},
                ],
            },
            "a\n<b>",
        ),
        ({"type": "header", "text": {"type": "plain_text", "text": "Done"}}, "Done"),
        (
            {
                "type": "context",
                "elements": [
                    {
                        "type": "image",
                        "alt_text": "logo",
                        "image_url": "https://a.example/i",
                    },
                    {"type": "mrkdwn", "text": "by <@U1>"},
                ],
            },
            "[logo](https://a.example/i) by @ann",
        ),
        ({"type": "divider"}, "---"),
        (
            {
                "type": "image",
                "title": {"type": "plain_text", "text": "Cat"},
                "alt_text": "c",
            },
            "Cat",
        ),
        (
            {
                "type": "actions",
                "elements": [
                    {
                        "type": "button",
                        "text": {"type": "plain_text", "text": "Approve"},
                        "value": "secret",
                        "confirm": {"text": {"type": "plain_text", "text": "Sure?"}},
                    }
                ],
            },
            "Approve",
        ),
        ({"type": "from-the-future", "stuff": [{"text": "kept"}]}, "kept"),
    ],
)
def test_blocks_have_text(block: dict[str, Any], ours: str) -> None:
    assert of_blocks(block) == ours


def test_lists_are_marked_numbered_and_indented() -> None:
    def items(*texts: str) -> list[dict[str, Any]]:
        return [{"type": "rich_text_section", "elements": [text(t)]} for t in texts]

    block = {
        "type": "rich_text",
        "elements": [
            {"type": "rich_text_list", "style": "bullet", "elements": items("a")},
            {
                "type": "rich_text_list",
                "style": "ordered",
                "indent": 1,
                "offset": 2,
                "elements": items("b", "c"),
            },
        ],
    }
    assert of_blocks(block) == "• a\n    3. b\n    4. c"


def test_blocks_are_bounded_in_depth_and_size() -> None:
    deep: Any = {"type": "plain_text", "text": "deep"}
    for _ in range(150):
        deep = {"type": "x", "elements": [deep]}
    assert blocks_text([deep, {"type": "plain_text", "text": "flat"}]) == "flat"
    wide = [{"type": "mrkdwn", "text": "x" * 1000}] * 100_000
    assert len(blocks_text(wide)) <= 1_000_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "text", "elements", "fields", "style", "url", "offset"])
            | st.text(max_size=3),
            inner
            | st.sampled_from(
                ["text", "link", "rich_text_list", "rich_text", "image", "date", "user"]
            ),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_blocks_may_be_any_json(value: Any) -> None:
    assert isinstance(convert(blocks_text(value)), str)
