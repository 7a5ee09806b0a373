"""Write the example export: two weeks of chat at a company that does not exist.

    python examples/make_slack_export.py             slack-export.zip, beside this file
    python examples/make_slack_export.py OUT.zip     the same, elsewhere
    python examples/make_slack_export.py --week-later OUT.zip    grown by a week

The same call writes the same bytes (given the same zlib). A week later there are a new
member, a third week of messages, and edits, replies and reactions on messages of the
first two; all that was there keeps its ids and times. With `--week-later` a folder is
as good as a file: `slack-export-week-later.zip` is written into it.

It holds a little of everything that Slack writes: see ODDITIES. One message is broken
on purpose.

The rooms' messages are transcripts. A line is one message, its time in UTC first;
indented lines belong to the message above:

    == 2024-03-04                 a day
    09:02 ines  Good morning!     {mika} is a mention, {#firmware} a link to a room
        and its text goes on      as Slack writes it: <url|label>, &amp;, *bold*, `code`
        | on a new line
        + tada mika seun          a reaction, and who reacted
        * drain-chart             a file, see FILES
        ~ 09:04                   when it was edited; with a text: what it says since
        > 09:10 mika  Hi.         a reply; of a later day: > 2024-03-05 09:10 mika
            + heart ines          what hangs on a reply is indented once more
        >> 09:12 seun  Hello all  a reply also sent to the room
        ^ + heart yuki            any of these, but only in the export of a week later
    09:20 priya /topic New topic  what happened to the room; /odd NAME: see ODDITIES
"""

from __future__ import annotations

import argparse
import json
import re
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
TEAM = "T07HOLLOW01"
PARTNER_TEAM = "T08ORCHARD1"
LAST_DAY = "2024-03-17"
"""Last day of the export; transcripts go on for the export of a week later."""
WRITTEN = (2024, 3, 18, 6, 0, 0)
FOUNDED = 1_672_650_000


@dataclass(frozen=True)
class Person:
    id: str
    name: str
    real_name: str
    title: str = ""
    tz: tuple[str, str, int] = ("Europe/Lisbon", "Western European Time", 0)
    more: Json = field(default_factory=dict)
    """What the member list says besides; it replaces what everybody has."""
    listed: bool = True
    """False for people of another workspace: only their messages tell who they are."""
    later: bool = False
    """Only in the export of a week later."""


PEOPLE = {
    person.name: person
    for person in (
        Person(
            "U07INES0001",
            "ines",
            "Inês Duarte",
            "Operations",
            more={"is_admin": True, "is_owner": True, "is_primary_owner": True},
        ),
        Person(
            "U07TOMASZ01",
            "tomasz",
            "Tomasz Wrona",
            "Firmware",
            ("Europe/Warsaw", "Central European Time", 3600),
            {"is_admin": True},
        ),
        Person(
            "U07PRIYA001",
            "priya",
            "Priya Raman",
            "Product",
            ("Asia/Kolkata", "India Standard Time", 19800),
        ),
        Person(
            "U07SEUN0001",
            "seun",
            "Seun Adeyemi",
            "Field engineer",
            ("Africa/Lagos", "West Africa Time", 3600),
        ),
        Person(
            "U07MIKA0001",
            "mika",
            "Mika Laine",
            "Backend & data",
            ("Europe/Helsinki", "Eastern European Time", 7200),
        ),
        Person(
            "U07YUKI0001",
            "yuki",
            "森 由紀",
            "Sales, Japan",
            ("Asia/Tokyo", "Japan Standard Time", 32400),
        ),
        Person("U07GRETA001", "greta", "Greta Holm", more={"deleted": True}),
        Person(
            "U07HARBOR01",
            "harbor",
            "Harbor",
            more={"is_bot": True, "is_app_user": False},
        ),
        Person("USLACKBOT", "slackbot", "Slackbot", more={"team_id": TEAM}),
        Person("U08LENA0001", "lena", "Lena Vogt", "Orchard manager", listed=False),
        Person("U07NOOR0001", "noor", "Noor Haddad", "Firmware", later=True),
    )
}

ABOUT: dict[str, Json] = {
    "ines": {"status_text": "Stocktaking", "status_emoji": ":package:"},
    "seun": {"status_text": "In the field, slow replies", "status_emoji": ":tractor:"},
    "yuki": {"display_name": "由紀 (Yuki)"},
    "harbor": {"bot_id": "B07HARBOR01", "api_app_id": "A07HARBOR01", "email": None},
    "slackbot": {"email": None, "always_active": True},
    "greta": {"display_name": "", "image_512": None},
}
"""What is particular in a member's profile; None removes a field."""


def file_url(identity: str, name: str, download: str = "") -> str:
    base = f"https://files.example.com/files-pri/{TEAM}-{identity}"
    return f"{base}{download}/{name}?t=xoxe-not-a-token"


def hosted(identity: str, name: str, mime_type: str, size: int, **more: Any) -> Json:
    """A file that Slack keeps. (The address leads nowhere.)"""
    suffix = name.rpartition(".")[2]
    address = name.lower().replace(" ", "_")
    return {
        "id": identity,
        "name": name,
        "title": name.rpartition(".")[0],
        "mimetype": mime_type,
        "filetype": suffix,
        "pretty_type": suffix.upper(),
        "editable": False,
        "size": size,
        "mode": "hosted",
        "is_external": False,
        "external_type": "",
        "is_public": True,
        "public_url_shared": False,
        "url_private": file_url(identity, address),
        "url_private_download": file_url(identity, address, "/download"),
        "permalink": f"https://hollowmere.example.com/files/{identity}/{address}",
        **more,
    }


FILES: dict[str, Json] = {
    "drain-chart": hosted(
        "F07DRAIN001",
        "battery drain 2.3 vs 2.4.png",
        "image/png",
        148_213,
        original_w=1640,
        original_h=920,
        thumb_360=file_url("F07DRAIN001", "battery_drain_360.png"),
    ),
    "trial-report": hosted("F07REPORT01", "Winter trial report.pdf", "application/pdf", 2_310_442),
    "row-4": hosted("F07ROW40001", "row 4.jpg", "image/jpeg", 1_904_377, original_w=4032),
    "row-7": hosted("F07ROW70001", "row 7.jpg", "image/jpeg", 2_077_015, original_w=4032),
    "row-9": hosted("F07ROW90001", "row 9.jpg", "image/jpeg", 1_660_902, original_w=4032),
    "flyer": hosted("F07FLYER001", "展示会チラシ.pdf", "application/pdf", 884_120),
    "booth": hosted("F07BOOTH001", "IMG_2041.heic", "image/heic", 1_312_870, original_w=4032),
    "voice-note": hosted("F07VOICE001", "voice note.m4a", "audio/mp4", 96_544),
    "wake-patch": hosted(
        "F07PATCH001",
        "wake.patch",
        "text/plain",
        512,
        mode="snippet",
        editable=True,
        preview="- RTC_WAKE_EVERY(60)\n+ RTC_WAKE_EVERY(900)",
        lines=2,
    ),
    "budget": {
        "id": "F07BUDGET01",
        "name": "Budget 2024",
        "title": "Budget 2024",
        "mimetype": "text/html",
        "filetype": "sheet",
        "size": 0,
        "mode": "external",
        "is_external": True,
        "external_type": "sheets",
        "url_private": "https://sheets.example.net/d/budget-2024",
        "permalink": "https://hollowmere.example.com/files/F07BUDGET01/budget_2024",
    },
    "deleted-file": {"id": "F07GONE0001", "mode": "tombstone"},
    "over-limit": {
        "id": "F07LIMIT001",
        "created": 1_704_445_200,
        "timestamp": 1_704_445_200,
        "mode": "hidden_by_limit",
    },
}

CI = {"emoji": ":construction_worker:", "image_64": "https://ci.example.com/icon.png"}
HARBOR_PROFILE = {
    "id": "B07HARBOR01",
    "app_id": "A07HARBOR01",
    "name": "Harbor",
    "icons": {"image_48": "https://harbor.example.com/48.png"},
    "deleted": False,
    "team_id": TEAM,
}

ODDITIES: dict[str, Json] = {
    # A webhook: no user, only a name.
    "build-failed": {
        "subtype": "bot_message",
        "text": "",
        "username": "Orchard CI",
        "bot_id": "B07ORCHCI01",
        "icons": CI,
        "attachments": [
            {
                "id": 1,
                "color": "a30200",
                "fallback": "Build #1182 of node-firmware failed",
                "title": "Build #1182 of node-firmware failed",
                "title_link": "https://ci.example.com/node-firmware/1182",
                "text": "`test_deep_sleep` timed out (30 s) &amp; was retried twice",
                "fields": [
                    {"title": "Branch", "value": "release/2.4", "short": True},
                    {"title": "Author", "value": "Tomasz Wrona", "short": True},
                ],
            }
        ],
    },
    "build-passed": {
        "subtype": "bot_message",
        "text": "Build <https://ci.example.com/node-firmware/1185|#1185> of "
        "`release/2.4` passed in 6 min 12 s :large_green_circle:",
        "username": "Orchard CI",
        "bot_id": "B07ORCHCI01",
        "icons": CI,
    },
    # An app that writes in blocks and leaves the text empty.
    "deploy-card": {
        "text": "",
        "user": PEOPLE["harbor"].id,
        "bot_id": "B07HARBOR01",
        "app_id": "A07HARBOR01",
        "bot_profile": HARBOR_PROFILE,
        "blocks": [
            {
                "type": "header",
                "block_id": "h1",
                "text": {
                    "type": "plain_text",
                    "text": ":ship: dashboard 5.18.0 is live",
                    "emoji": True,
                },
            },
            {
                "type": "section",
                "block_id": "s1",
                "text": {
                    "type": "mrkdwn",
                    "text": "Deployed by <@U07MIKA0001> in 3 min. "
                    "<https://harbor.example.com/deploys/418|What changed>",
                    "verbatim": False,
                },
            },
            {
                "type": "context",
                "block_id": "c1",
                "elements": [
                    {"type": "mrkdwn", "text": "eu-west · 4 of 4 healthy"},
                ],
            },
        ],
    },
    "harbor-added": {
        "subtype": "bot_add",
        "user": PEOPLE["mika"].id,
        "text": "added an integration to this channel: "
        "<https://hollowmere.example.com/services/B07HARBOR01|Harbor>",
        "bot_id": "B07HARBOR01",
    },
    "reminder": {
        "subtype": "reminder_add",
        "user": PEOPLE["ines"].id,
        "text": "set up a reminder “water the office lemon tree” in this channel at "
        "4PM every Friday, Western European Time.",
    },
    "slackbot-answer": {
        "subtype": "slackbot_response",
        "user": "USLACKBOT",
        "text": "The guest network is *hollowmere-guest*; ask <@U07INES0001> for the password.",
    },
    # A deleted message whose replies are still there.
    "deleted-parent": {
        "subtype": "tombstone",
        "user": "USLACKBOT",
        "text": "This message was deleted.",
        "hidden": True,
    },
    "preview": {
        "user": PEOPLE["priya"].id,
        "client_msg_id": "5f0c2a7e-9a53-4c39-8f40-0b1a6f0d7c11",
        "text": "Worth ten minutes: <https://blog.example.org/frost-and-roots?utm=a&amp;ref=b>",
        "attachments": [
            {
                "id": 1,
                "from_url": "https://blog.example.org/frost-and-roots?utm=a&ref=b",
                "original_url": "https://blog.example.org/frost-and-roots?utm=a&ref=b",
                "fallback": "Field notes: Frost and roots",
                "service_name": "Field notes",
                "title": "Frost and roots: what a sensor cannot see",
                "title_link": "https://blog.example.org/frost-and-roots?utm=a&ref=b",
                "text": "Why two probes a metre apart can disagree for weeks.",
                "image_url": "https://blog.example.org/frost.jpg",
            }
        ],
    },
    # The broken one: its time is no time.
    "broken": {
        "user": PEOPLE["seun"].id,
        "text": "Gateway at the co-op is back, it was the fuse.",
        "ts": "17102x7740.000200",
    },
}

GENERAL = """
== 2024-03-04
08:02 ines  Good morning <!here>! Two weeks to the co-op visit. Plan for today: {tomasz}
    finishes 2.4, {seun} drives to the orchard on Wednesday, and I count boxes.
    + wave mika seun priya
    + package tomasz
08:05 mika  Morning. Boxes first, coffee second?
    > 08:06 ines  Coffee first. I am not a monster.
        + joy mika seun tomasz
    > 08:09 seun  Please leave me one crate of the *long* probes, the short ones do not
        reach below the frost line.
    > 08:12 ines  Ten long ones are in the blue crate by the door, with your name on it.
        + pray::skin-tone-5 seun
08:31 priya  The roadmap page is up to date: <https://wiki.example.com/roadmap|Roadmap
    Q2>. Comments until Thursday, please.
    + eyes mika tomasz
    ~ 08:33
    ^ ~ 2024-03-18 08:40 The roadmap page is up to date:
    <https://wiki.example.com/roadmap|Roadmap Q2>. Comments are closed now, thank you
    all!
09:47 tomasz  Does anyone else get logged out of the dashboard every hour or so?
    > 09:49 mika  Yes, that is me. Session keys were rotated on Friday &amp; the old
        nodes did not notice. Fix goes out before lunch.
    > 09:50 tomasz  :+1: no hurry
    >> 11:26 mika  Fixed, please log in once more.
        + tada tomasz priya ines
11:24 - /odd deploy-card
    + ship mika
== 2024-03-05
08:15 greta  /me waves from the train
    + train2 ines
08:40 priya  /odd preview
    + bulb seun
    > 09:02 seun  This is exactly what we saw in row 7. I will bring a third probe.
    > 09:10 priya  Could you take photos of the spots as well? For the visit.
10:05 ines  What is the wifi password for guests again?
10:06 - /odd slackbot-answer
    + joy ines mika tomasz
12:20 seun  Who ate my yoghurt
    > 12:22 mika  Which one?
    > 12:22 seun  The one that said *SEUN* on the lid.
    > 12:31 tomasz  … I thought that was a brand.
        + joy ines priya mika seun greta
        ^ + yoghurt yuki
15:45 priya  {ines} can you send the co-op people the address and parking? It is
    <mailto:visits@example.com|visits@example.com>, phone <tel:+351000000000|+351 000
    000 000>.
    + white_check_mark ines
== 2024-03-06
07:55 seun  On the road. Back online around 11.
    + tractor ines priya
10:52 seun  Arrived. Rows 4, 7 and 9 as promised, third probe is in.
    * row-4
    * row-7
    * row-9
    + heart priya
    + camera_with_flash ines mika
    > 11:05 priya  These are lovely. May I use row 9 on the website?
    > 11:06 seun  Sure. That is my boot in the corner though.
        + boot priya tomasz
    ^ > 2024-03-19 09:15 priya  It is on the website now. We kept the boot.
        + heart seun ines
11:28 lena  /join
11:30 lena  Thank you for coming out in this weather, {seun}! The gateway in the barn
    went dark again at five this morning, could you have a look while you are here?
    > 11:34 seun  Walking over now.
    > 12:10 seun  Mouse. It had breakfast on the antenna cable. Replaced it; all 14
        nodes report again.
        + mouse mika tomasz ines priya
        + clap::skin-tone-2 priya
        + clap ines
    > 12:15 lena  Oh no. We will move the feed bags.
16:20 ines  Budget for the visit, please look at the catering line before Friday.
    * budget
16:32 mika  Was there a photo of last year's booth somewhere? I only find this:
    * deleted-file
    * over-limit
    > 16:40 ines  Those are gone, we were over the limit of the free plan back then.
== 2024-03-07
08:58 ines  Standup in two minutes, <!channel>. Short one today.
    ~ 08:59
09:25 priya  Notes from standup:
    | • 2.4 release candidate tonight ({tomasz})
    | • alert thresholds per crop: design review tomorrow ({mika}, {priya})
    | • winter trial is done, report is in {#winter-trial}
    | • visit: 6 guests, 2 vegetarians, 1 dog
    + dog2 ines seun
09:26 ines  /pin
13:05 mika  <!subteam^S07FIELD001|@field> heads up: readings arrive with up to 5 minutes
    delay for the next hour, I am moving the ingest queue.
    > 13:58 mika  Done. If `battery &lt; 3.1` alerts look odd, tell me.
15:30 ines  /topic Co-op visit on 14 March · release 2.4 · please label your yoghurt
== 2024-03-08
09:30 greta  Today is my last day. Thank you for two very good years, and for teaching
    me to solder without burning anything but the table. :green_heart:
    + heart ines tomasz priya seun mika yuki
    + cry::skin-tone-3 priya
    + sob mika
    > 09:33 tomasz  The table will be named after you.
        + joy greta ines
    > 09:41 yuki  お疲れさまでした！ Come and see us in Tokyo.
    > 09:55 greta  I will!
10:00 ines  Cake at three, kitchen. For those far away:
    <https://meet.example.com/cake?room=1&amp;v=2>
    + cake tomasz mika greta priya
    + birthday seun
16:00 - /odd reminder
16:45 greta  /leave
== 2024-03-11
08:01 ines  Morning all. Visit on Thursday! Open points: badges, parking, projector.
    > 08:10 tomasz  Projector works, I tried it with the firmware demo.
    > 08:12 mika  Badges: printing today. Does “Vogt” have one *g*? {lena}
    > 08:40 lena  One g, yes.
        + +1 mika
10:15 priya  Does “soil tension” mean anything to a customer, or is it just us?
    | 1. soil tension
    | 2. thirst
    | 3. water stress
    + two ines seun
    + three mika tomasz
    + one yuki
    > 10:20 seun  Growers say “dry” and “not dry”.
        + 100 priya mika ines
    ^ + three noor
== 2024-03-12
13:15 seun  /odd broken
14:02 tomasz  :rocket: *Node firmware 2.4 is out*. Average current in deep sleep went
    from 38 µA to 11 µA, which is &gt; 3 years on one battery.
    + rocket ines priya seun mika yuki
    + battery seun
    ~ 14:05
    > 14:06 seun  Three years! I will have nothing to do.
    > 14:07 ines  You can count boxes with me.
    > 14:30 yuki  すごい！ The customer in Nagano will be very happy.
    ^ + tada noor
    ^ ~ 2024-03-18 10:02 :rocket: *Node firmware 2.4 is out*. Average current in deep
    sleep went from 38 µA to 12 µA (I had misread the meter), which is still &gt; 3
    years on one battery.
== 2024-03-13
09:12 mika  Literal angle brackets for the docs people: write `&lt;node-id&gt;`, or
    &lt;https://example.com&gt; if it is not to be a link.
15:00 ines  Tomorrow: guests at <!date^1710410400^{date_short} at {time}|14 March,
    10:00>. Please tidy your desks. Yes, {tomasz}, that one too.
    + saluting_face tomasz
== 2024-03-14
10:48 priya  They are here, and the dog is called Biscuit.
    + dog2 ines seun mika tomasz yuki
12:55 lena  Thank you all for a wonderful morning. Biscuit approves of the carpet.
    + heart_eyes priya ines
    > 13:01 ines  The carpet will recover. :slightly_smiling_face:
14:40 seun  Retro in ten minutes, same link as always.
== 2024-03-15
09:05 ines  *Retro, in short*
    | &gt; what went well: the demo, the cake, three years of battery
    | &gt; what did not: barn gateway, badges jammed the printer
    | &gt; next: fuse box for the barn, 2.4.1, thresholds per crop
    + raised_hands::skin-tone-4 priya
    + raised_hands tomasz mika
    > 09:20 mika  I can take thresholds. Starting Monday.
16:30 tomasz  Have a good weekend, everybody.
    + palm_tree ines
== 2024-03-18
08:00 ines  Good morning! Please welcome {noor}, who joins {tomasz} in firmware today.
    + wave tomasz mika seun priya yuki
08:03 noor  /join
08:10 noor  Hello all, happy to be here. Which yoghurts are safe?
    + joy seun tomasz ines mika priya
    > 08:12 seun  Anything without a name on it.
08:45 priya  The co-op signed. 120 nodes, first delivery in May!
    + tada ines tomasz mika seun yuki noor
    + champagne ines
    > 08:47 lena  Looking forward to it!
== 2024-03-20
09:30 mika  Thresholds per crop are on staging:
    <https://staging.example.com/thresholds>. Try to break them.
    + hammer noor
    > 11:02 noor  A threshold of `-1` is accepted. Should it be?
    > 11:04 mika  It should not. Thanks!
== 2024-03-22
16:00 ines  Lemon tree: watered. Have a good weekend.
    + lemon priya seun
"""

FIRMWARE = """
== 2024-03-04
09:15 tomasz  /name node-fw firmware
09:16 tomasz  /purpose Node and gateway firmware: builds, releases, things that drain
    batteries
09:30 tomasz  2.4-rc1 on my desk draws 140 µA in deep sleep. It should be about 10.
    * drain-chart
    + face_with_monocle mika seun
    > 09:36 mika  Is the radio really off?
    > 09:38 tomasz  Radio yes. I suspect the RTC: it wakes every minute for no reason.
    > 09:52 seun  Nodes with 2.3 in the field wake every 15 min, see {#winter-trial}.
    > 10:40 tomasz  Found it.
        * wake-patch
        + bulb mika
    > 10:41 mika  :facepalm: Sixty seconds, not sixty polls.
    ^ > 2024-03-18 09:30 noor  Reading this to learn the code. Is there a test for it
        now?
    ^ > 2024-03-18 09:34 tomasz  `test_deep_sleep`, and it is the slowest test we have.
14:20 - /odd build-failed
    > 14:25 tomasz  That is the test, not the code. It waits for a clock that sleeps
        too.
== 2024-03-05
09:18 seun  /join
09:20 tomasz  Reviewers for the wake-up change, please? 40 lines, half of them comments.
    + eyes mika
    > 11:15 mika  Approved with one question about `rtc_set_alarm()`.
    > 11:30 tomasz  Answered. Good catch, it was off by one at midnight.
15:02 mika  Snippet for reading the counters over serial:
    | ```
    | $ node-cli counters --port /dev/ttyUSB0
    | wakeups: 96   tx: 48   crc_errors: 0
    | if wakeups &gt; 200 &amp;&amp; tx &lt; 50: suspicious
    | ```
    + pray tomasz
== 2024-03-06
12:20 seun  Mouse-damaged antenna cable: the node kept trying to join at full power. 9 %
    of the battery in six hours.
    + scream tomasz mika
    > 12:34 tomasz  We need a back-off there. 1 min, 2, 4, … up to an hour?
    > 12:36 mika  With jitter, please, or they all come back at once.
        + 100 tomasz
    > 12:50 seun  And a log line that I can read without a laptop.
16:48 - /odd build-passed
    + large_green_circle tomasz
== 2024-03-07
10:12 mika  /odd harbor-added
10:15 - /odd deleted-parent
    > 10:18 tomasz  Wrong channel? That looked like a shopping list.
    > 10:19 mika  It was. Bread is still missing.
        + bread tomasz seun
19:40 tomasz  2.4-rc2 is flashed on four nodes on the roof. Good night.
    + crescent_moon mika
== 2024-03-08
08:20 tomasz  After 12 h: 11 µA, 11 µA, 11 µA and… 84 µA.
    > 08:24 mika  Fourth one is the one with the old bootloader, isn't it?
    > 08:31 tomasz  It is. Everything before bootloader 7 leaves the ADC on.
    > 08:33 seun  There are 23 of those in the field.
    >> 08:50 tomasz  So the release notes need a line: bootloader &lt; 7 must be updated
        first.
        + memo seun mika
11:05 priya  Who writes the release notes for customers?
    > 11:06 tomasz  Me, you shorten them, as always.
        + handshake::skin-tone-2::skin-tone-5 priya
== 2024-03-11
09:00 tomasz  Plan for 2.4: release tomorrow at 14:00 UTC, gateways first, then 10
    nodes, then the rest overnight. Stop: `node-cli rollout --pause`. {mika} {seun} ok?
    + ok_hand mika
    + +1 seun
    > 09:12 seun  Ok. Leave out the barn gateway until I have changed the fuse.
09:40 mika  Dashboards for the rollout are in {##general}'s bookmarks.
== 2024-03-12
13:58 tomasz  Gateways: 6 of 7 updated.
14:00 tomasz  Ten nodes: fine. Starting the rest.
    + crossed_fingers mika seun
14:35 harbor  Rollout `2.4` is 50 % done: 71 updated, 0 failed, 71 to go
15:20 harbor  Rollout `2.4` is done: 141 updated, 1 failed (`node-0c2f`: low battery)
    + tada tomasz mika seun
    > 15:22 seun  0c2f is the one in the compost. I will not go and fetch it today.
        + joy mika tomasz
== 2024-03-13
08:40 mika  Night in numbers: 141 nodes, 13,511 wake-ups, 2 missed reports. Before it
    was 13,498 and 61.
    + chart_with_downwards_trend tomasz
    ~ 08:52
    ^ + fire noor
10:30 tomasz  Ticket for the back-off: <https://tickets.example.com/FW-212|FW-212 Join
    back-off [draft]>
== 2024-03-15
11:10 tomasz  2.4.1 will have: back-off with jitter (FW-212), a readable log line, and
    no more sixty-second surprises.
    + rocket seun
== 2024-03-18
09:00 noor  /join
09:41 noor  First pull request: a comment typo. One has to start somewhere.
    + seedling tomasz mika
    > 09:50 tomasz  Merged. Ship it.
== 2024-03-21
14:00 tomasz  2.4.1 is out, quietly, as it should be.
    + zzz noor seun
"""

WINTER_TRIAL = """
== 2024-03-04
10:10 seun  Numbers of the last week are in. 98.7 % of reports arrived, coldest night
    -11 °C.
    + snowflake priya
10:30 priya  Better than I dared to hope. When can we close this?
    > 10:34 seun  Report on Wednesday, then you can have your channel back.
== 2024-03-05
14:10 greta  I put the raw readings into cold storage, 2.1 GB. Ask me before Friday if
    you want them anywhere else.
    + floppy_disk seun
== 2024-03-06
17:45 seun  Here it is. Short version: *it works below zero, it does not work below
    mice*.
    * trial-report
    + clap priya tomasz mika ines
    + mouse lena
    > 17:58 priya  That sentence stays in.
    > 18:03 lena  Seconded, from the orchard.
        ^ + heart priya
== 2024-03-07
09:50 priya  Thank you everybody. What is still open moves to {#firmware}.
09:58 seun  /leave
10:00 priya  /archive
"""

TOKYO = """
== 2024-03-05
00:30 yuki  おはようございます。展示会のチラシができました。
    * flyer
    + tada priya
    > 07:10 priya  Beautiful! Is that row 7 on the cover?
    > 07:15 yuki  Yes :slightly_smiling_face: 第7列です。
02:10 yuki  Booth number is 4-17, hall *東2*. Set-up from 08:00 JST on the 13th.
== 2024-03-07
01:05 yuki  {priya} 質問です: can a node be mounted on a tea bush? 静岡のお客様から。
    > 06:40 priya  Asking {seun}, he once mounted one on a goat.
    > 08:20 seun  The goat was an accident. Tea bush: yes, with the short probe.
        + goat yuki priya mika
== 2024-03-08
01:20 yuki  /topic 展示会 3月13日〜14日 · ブース 4-17
== 2024-03-12
23:40 yuki  Set-up is done. Demo node says 23 % and everyone wants to water it.
    + seedling priya seun
== 2024-03-13
08:50 yuki
    * booth
    + heart_eyes priya ines
== 2024-03-14
09:10 yuki  Two days, 61 cards, 4 serious talks, 1 person who thought we sell plants.
    + muscle::skin-tone-3 priya
    + potted_plant mika ines
    > 09:20 priya  We could.
    ^ + 100 noor
== 2024-03-19
01:15 yuki  静岡のお客様から見積もりの依頼が来ました！ They want 40 nodes for their tea.
    + tea priya seun tomasz
    > 06:30 priya  :tada: On it today.
"""

HIRING = """
== 2024-03-05
13:00 ines  /join
13:02 ines  Three candidates for the firmware position, notes only in here please.
13:15 tomasz  I would like to see the second one again. She asked about brown-out before
    I mentioned batteries.
    + +1 ines
    > 13:20 ines  Monday 11:00?
    > 13:21 tomasz  Works.
== 2024-03-11
11:58 tomasz  That went well. Yes from me.
    ~ 12:10
    > 12:02 ines  Yes from me, too. References?
    > 12:03 priya  Called both this morning, glowing.
== 2024-03-13
10:00 ines  Offer is out. Fingers crossed.
    + crossed_fingers tomasz priya
== 2024-03-15
15:15 ines  She said yes! Starts on Monday. Name badge: *Noor*.
    + tada tomasz priya
    + champagne tomasz
    ^ + heart ines
15:20 tomasz  /topic Closed until summer
"""

VISIT_GROUP = """
== 2024-03-06
13:30 priya  Small group for Thursday's demo, so that we don't spam everyone.
13:34 mika  Good. I would show the map, one alert, and the export. Ten minutes.
    + ok_hand seun
13:40 seun  And I pour water on a real probe. People love that.
    + droplet priya mika
    > 13:41 mika  Not over the projector this time.
== 2024-03-13
17:02 priya  Rehearsal went fine, except that the map showed the car park.
    > 17:10 mika  Zoom level is saved per person now. Reload.
    > 17:12 priya  :ok_hand:
17:30 seun  If I cannot find a bucket, may I use the coffee pot?
    + no_entry_sign priya mika
== 2024-03-14
11:40 priya  You were great. They asked for the price themselves!
    + star-struck seun
    ^ + moneybag mika
"""

INES_AND_TOMASZ = """
== 2024-03-07
16:05 ines  Do you have five minutes about the meter? The invoice says two.
16:07 tomasz  One for me, one for the roof. I should have told you, sorry.
16:08 ines  All fine, I just pay them both then.
    + pray tomasz
== 2024-03-12
14:45 ines  Congratulations on the release! :tada:
14:46 tomasz  Thanks! I will sleep like a node tonight.
    + joy ines
== 2024-03-18
17:00 tomasz  Noor found the meter was misread. 12, not 11. I corrected the
    announcement.
17:02 ines  Honest to the microampere. Good.
"""

PRIYA_AND_YUKI = """
== 2024-03-06
06:50 priya  Good morning! Could you send me the list of questions from visitors
    afterwards?
07:02 yuki  Of course. In English or as they come?
07:03 priya  As they come, I like to practise. 少しだけ!
    + clap yuki
== 2024-03-14
09:30 yuki  Recorded it on the way to the station, sorry for the trains.
    * voice-note
09:48 priya  Even the trains sound punctual. Thank you!
"""

NOTES_OF_MIKA = """
== 2024-03-08
15:10 mika  TODO: bread, oat milk, thresholds per crop, answer landlord
    ~ 18:20
    ^ ~ 2024-03-18 08:05 TODO: thresholds per crop
== 2024-03-13
21:15 mika  idea: alert when a node is _too_ healthy (stuck sensor!)
    | see <https://wiki.example.com/stuck-sensors>
"""


@dataclass(frozen=True)
class Place:
    """A room, and what was said in it."""

    kind: str
    id: str
    name: str
    members: str
    """Names, the creator's first."""
    transcript: str
    topic: str = ""
    purpose: str = ""
    more: Json = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return self.id if self.kind == "dms" else self.name


GENERAL_ID = "C07GENERAL1"
PLACES = (
    Place(
        "channels",
        GENERAL_ID,
        "general",
        "ines tomasz priya seun mika yuki lena",
        GENERAL,
        "Co-op visit on 14 March · release 2.4 · please label your yoghurt",
        "Everybody, everything that concerns everybody",
        {"is_general": True},
    ),
    Place(
        "channels",
        "C07FIRMWARE",
        "firmware",
        "tomasz mika seun priya harbor",
        FIRMWARE,
        "",
        "Node and gateway firmware: builds, releases, things that drain batteries",
    ),
    Place(
        "channels",
        "C07WINTER01",
        "winter-trial",
        "priya",
        WINTER_TRIAL,
        "Week 12 of 12",
        "Does it work below zero?",
        {"is_archived": True},
    ),
    Place(
        "channels",
        "C07TOKYO001",
        "東京オフィス",
        "yuki priya seun mika",
        TOKYO,
        "展示会 3月13日〜14日 · ブース 4-17",
    ),
    Place(
        "groups",
        "G07HIRING01",
        "hiring",
        "ines tomasz priya",
        HIRING,
        "Closed until summer",
        "Candidates & offers. What is said here stays here.",
    ),
    Place(
        "mpims",
        "G07VISIT001",
        "mpdm-priya--seun--mika-1",
        "priya seun mika",
        VISIT_GROUP,
        purpose="Group messaging with: @priya @seun @mika",
    ),
    Place("dms", "D07INESTOM1", "", "ines tomasz", INES_AND_TOMASZ),
    Place("dms", "D07PRIYUKI1", "", "priya yuki", PRIYA_AND_YUKI),
    Place("dms", "D07MIKA0001", "", "mika", NOTES_OF_MIKA),
)
IDS_OF_ROOMS = {place.name: place.id for place in PLACES if place.name}

INTEGRATION_LOGS = [
    {
        "user_id": PEOPLE["mika"].id,
        "user_name": "mika",
        "date": "1709806320",
        "change_type": "added",
        "app_type": "Harbor",
        "app_id": "A07HARBOR01",
        "scope": "chat:write,channels:read",
    }
]
CANVAS = [
    {
        "id": "F07CANVAS01",
        "title": "Welcome to Hollowmere",
        "mode": "quip",
        "filetype": "quip",
        "url_private": file_url("F07CANVAS01", "welcome"),
    }
]


def user_id(name: str) -> str:
    return PEOPLE[name].id


def profile_of(person: Person) -> Json:
    first, _, last = person.real_name.partition(" ")
    avatar = f"https://avatars.example.com/{person.name}"
    whole = {
        "title": person.title,
        "phone": "",
        "skype": "",
        "real_name": person.real_name,
        "real_name_normalized": person.real_name,
        "display_name": person.name,
        "display_name_normalized": person.name,
        "status_text": "",
        "status_emoji": "",
        "avatar_hash": uuid.uuid5(uuid.NAMESPACE_URL, avatar).hex[:12],
        "email": f"{person.name}@example.com",
        "first_name": first,
        "last_name": last,
        "image_72": f"{avatar}_72.png",
        "image_512": f"{avatar}_512.png",
        "team": TEAM,
    } | ABOUT.get(person.name, {})
    return {key: value for key, value in whole.items() if value is not None}


def member(person: Person) -> Json:
    """The person's entry in `users.json`; who has left has less of it."""
    made: Json = {
        "id": person.id,
        "team_id": TEAM,
        "name": person.name,
        "deleted": False,
        "color": uuid.uuid5(uuid.NAMESPACE_URL, person.id).hex[:6],
        "real_name": person.real_name,
        "tz": person.tz[0],
        "tz_label": person.tz[1],
        "tz_offset": person.tz[2],
        "profile": profile_of(person),
        "is_admin": False,
        "is_owner": False,
        "is_primary_owner": False,
        "is_restricted": False,
        "is_ultra_restricted": False,
        "is_bot": False,
        "is_app_user": False,
        "updated": FOUNDED + 90_000,
    } | person.more
    if made["deleted"]:
        for key in ("color", "real_name", "tz", "tz_label", "tz_offset", "is_admin"):
            del made[key]
    return made


def user_profile(person: Person) -> Json:
    """What every message repeats of its author."""
    profile = profile_of(person)
    return {
        "avatar_hash": profile["avatar_hash"],
        "image_72": profile["image_72"],
        "first_name": profile["first_name"],
        "real_name": person.real_name,
        "display_name": profile["display_name"],
        "team": TEAM if person.listed else PARTNER_TEAM,
        "name": person.name,
        "is_restricted": False,
        "is_ultra_restricted": False,
    }


NAME = re.compile(r"\{(#{0,2})([^{}]+)\}")


def with_tags(text: str) -> str:
    """`{mika}`, `{#firmware}` and, as newer exports have it, `{##firmware}` as tags."""

    def tag(found: re.Match[str]) -> str:
        marks, name = found.groups()
        if marks and name in IDS_OF_ROOMS:
            return f"<#{IDS_OF_ROOMS[name]}|{name if marks == '#' else ''}>"
        return f"<@{user_id(name)}>" if name in PEOPLE else found[0]

    return NAME.sub(tag, text)


TOKEN = re.compile(
    r"<@(?P<user>\w+)>|<#(?P<channel>\w+)\|[^>]*>|<!(?P<range>here|channel)>"
    r"|<!subteam\^(?P<group>\w+)\|[^>]*>|<!date\^(?P<date>\d+)\^[^>]*>"
    r"|<(?P<url>[a-z]+:[^|>]+)(?:\|(?P<label>[^>]*))?>"
    r"|(?<!\w):(?P<emoji>[a-z0-9_+-]+):|`(?P<code>[^`\n]+)`|\*(?P<bold>[^*\n]+)\*"
)


def plain(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def element(found: re.Match[str]) -> Json:
    """The rich-text element for one piece of markup."""
    kind, value = str(found.lastgroup), str(found[str(found.lastgroup)])
    if kind in ("url", "label"):
        link: Json = {"type": "link", "url": plain(found["url"])}
        return link | ({"text": plain(value)} if kind == "label" else {})
    if kind in ("code", "bold"):
        return {"type": "text", "text": plain(value), "style": {kind: True}}
    if kind == "date":
        return {"type": "date", "timestamp": int(value), "format": "{date_short}"}
    names = {
        "user": ("user", "user_id"),
        "channel": ("channel", "channel_id"),
        "range": ("broadcast", "range"),
        "group": ("usergroup", "usergroup_id"),
        "emoji": ("emoji", "name"),
    }
    return {"type": names[kind][0], names[kind][1]: value}


def elements(text: str) -> Iterator[Json]:
    at = 0
    for found in TOKEN.finditer(text):
        if found.start() > at:
            yield {"type": "text", "text": plain(text[at : found.start()])}
        yield element(found)
        at = found.end()
    if at < len(text):
        yield {"type": "text", "text": plain(text[at:])}


def rich_text(text: str, key: str) -> list[Json]:
    """The blocks that Slack keeps beside a text that a person typed."""
    parts: list[Json] = []
    for number, part in enumerate(text.split("```")):
        if number % 2:
            code = {"type": "text", "text": plain(part.strip("\n"))}
            parts.append({"type": "rich_text_preformatted", "elements": [code]})
        elif part:
            section = list(elements(part))
            parts.append({"type": "rich_text_section", "elements": section})
    return [{"type": "rich_text", "block_id": key[:5], "elements": parts}]


@dataclass(eq=False)
class Message:
    at: datetime
    author: str
    text: str
    ts: str
    parent: Message | None = None
    broadcast: bool = False
    reactions: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    edited: str = ""
    replies: list[Message] = field(default_factory=list)
    pinned: bool = False


class Transcript:
    """Reads a transcript, with or without what is there a week later only."""

    LINE = re.compile(
        r"(?P<later>\^ )?(?P<mark>>>|>|\+|\*|~|\||)\s?"
        r"(?:(?P<day>\d{4}-\d\d-\d\d) )?(?P<time>\d\d:\d\d)?\s?(?P<rest>.*)"
    )

    def __init__(self, week_later: bool) -> None:
        self._week_later = week_later
        self._used: Counter[datetime] = Counter()
        self._day = ""

    def read(self, text: str) -> list[Message]:
        """The messages, in the order in which they were sent."""
        messages: list[Message] = []
        root: Message | None = None
        reply: Message | None = None
        left_out = False
        for line in text.strip().splitlines():
            if line.startswith("== "):
                self._day = line[3:]
                continue
            depth = len(line) - len(line.lstrip())
            found = self.LINE.match(line.strip())
            if found is None:
                raise ValueError(line)
            replies = found["mark"] in (">", ">>")
            if depth == 0 or found["mark"]:  # others go on with the line above
                left_out = not self._week_later and self._is_later(found)
            if depth == 0:
                root = None if left_out else self._message(found, None)
                messages += [root] if root else []
            elif replies:
                reply = None if left_out or not root else self._message(found, root)
                messages += [reply] if reply else []
            elif not left_out and (target := reply if depth >= 8 else root):
                self._add(target, found)
        return sorted(messages, key=attrgetter("at"))

    def _is_later(self, found: re.Match[str]) -> bool:
        return bool(found["later"]) or self._day > LAST_DAY

    def _time(self, found: re.Match[str]) -> datetime:
        stamp = f"{found['day'] or self._day}T{found['time']}"
        return datetime.fromisoformat(stamp).replace(tzinfo=UTC)

    def _message(self, found: re.Match[str], parent: Message | None) -> Message:
        minute = self._time(found)
        self._used[minute] += 1
        spread = int(minute.timestamp()) // 60 * 7919 % 99_991
        at = minute.replace(second=spread % 29 + 9 * self._used[minute])
        author, _, text = found["rest"].partition(" ")
        made = Message(at, author, text.strip(), f"{int(at.timestamp())}.{spread:05d}9")
        if parent is not None:
            made.parent, made.broadcast = parent, found["mark"] == ">>"
            parent.replies.append(made)
        return made

    def _add(self, message: Message, found: re.Match[str]) -> None:
        rest = found["rest"].strip()
        match found["mark"]:
            case "+":
                emoji, *names = rest.split()
                message.reactions.setdefault(emoji, []).extend(names)
            case "*":
                message.files.append(rest)
            case "~":
                message.edited = f"{int(self._time(found).timestamp()) + 41}.000000"
                message.text = rest or message.text
            case "|":
                message.text += "\n" + rest
            case _:
                message.text += " " + found[0].strip()


class Room:
    """One room of the export, as Slack's JSON."""

    def __init__(self, place: Place, week_later: bool) -> None:
        self.place = place
        self._newcomer = week_later and place.name in ("general", "firmware")
        self._messages = Transcript(week_later).read(place.transcript)
        self._pins: list[Json] = []
        self._made = {message: self._base(message) for message in self._messages}

    def days(self) -> Iterator[tuple[str, list[Json]]]:
        """(day, messages) for each day on which something was said."""
        for day, group in groupby(self._messages, lambda m: m.at.date().isoformat()):
            yield day, [self._whole(message) for message in group]

    def entry(self) -> Json:
        """The room's own record in `channels.json` and the like."""
        place, names = self.place, self.place.members.split()
        names += ["noor"] if self._newcomer else []
        members = [user_id(name) for name in names]
        made: Json = {"id": place.id, "created": FOUNDED + len(place.transcript)}
        if place.kind == "dms":
            return made | {"members": members}
        made |= {"name": place.name, "creator": members[0], "is_archived": False}
        if place.kind == "channels":
            made["is_general"] = False
        about = {"creator": members[0], "last_set": made["created"] + 60}
        made |= {
            "members": members,
            "topic": {"value": place.topic, **about},
            "purpose": {"value": place.purpose, **about},
        }
        pins = {"pins": self._pins} if self._pins else {}
        return made | pins | place.more

    def _base(self, message: Message) -> Json:
        """The message without what hangs on it: thread, edit, reactions, files."""
        command, _, rest = message.text.partition(" ")
        if command == "/odd":
            return {"type": "message", "ts": message.ts, **ODDITIES[rest]}
        made = {"type": "message", "user": user_id(message.author), "ts": message.ts}
        if command in ("/join", "/leave", "/topic", "/purpose", "/name", "/archive"):
            return made | self._event(command[1:], rest, message.author)
        if command == "/pin":
            return made | self._pin(message)
        if command == "/me":
            return made | {"subtype": "me_message", "text": with_tags(rest)}
        return made | self._typed(message)

    def _typed(self, message: Message) -> Json:
        person, text = PEOPLE[message.author], with_tags(message.text)
        if person.more.get("is_bot"):
            identity = {"bot_id": "B07HARBOR01", "app_id": "A07HARBOR01"}
            return {"text": text, **identity, "bot_profile": HARBOR_PROFILE}
        team = TEAM if person.listed else PARTNER_TEAM
        key = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.place.id}/{message.ts}")
        return {
            "client_msg_id": str(key),
            "text": text,
            "team": TEAM,
            "user_team": team,
            "source_team": team,
            "user_profile": user_profile(person),
        } | ({"blocks": rich_text(text, key.hex)} if text else {})

    def _event(self, what: str, value: str, author: str) -> Json:
        prefix = "group" if self.place.kind == "groups" else "channel"
        made: Json = {"subtype": f"{prefix}_{what}"}
        who = f"<@{user_id(author)}>"
        texts = {
            "join": f"{who} has joined the channel",
            "leave": f"{who} has left the channel",
            "archive": f"{who} has archived the channel",
            "topic": f"set the channel topic: {value}",
            "purpose": f"set the channel description: {value}",
        }
        if what == "name":
            old, _, new = value.partition(" ")
            text = f"has renamed the channel from “{old}” to “{new}”"
            return made | {"old_name": old, "name": new, "text": text}
        named = {what: value} if what in ("topic", "purpose") else {}
        return made | named | {"text": texts[what]}

    def _pin(self, message: Message) -> Json:
        """A notice that the message before was pinned."""
        before = self._messages[: self._messages.index(message)]
        pinned = next(m for m in reversed(before) if m.parent is None)
        pinned.pinned = True
        stamp = {
            "created": int(message.at.timestamp()),
            "user": user_id(message.author),
        }
        owner = user_id(pinned.author)
        self._pins.append({"id": pinned.ts, "type": "C", **stamp, "owner": owner})
        author = profile_of(PEOPLE[pinned.author])
        attachment = {
            "text": with_tags(pinned.text),
            "fallback": f"[{pinned.at:%B %d, %Y}] {pinned.author}: …",
            "author_name": author["real_name"],
            "author_subname": author["display_name"],
            "author_icon": author["image_72"],
            "author_id": owner,
            "channel_id": self.place.id,
            "channel_name": self.place.name,
            "from_url": "https://hollowmere.example.com/archives/"
            f"{self.place.id}/p{pinned.ts.replace('.', '')}",
            "is_msg_unfurl": True,
            "ts": pinned.ts,
            "footer": f"Posted in #{self.place.name}",
            "mrkdwn_in": ["text"],
        }
        text = f"<@{user_id(message.author)}> pinned a message to this channel."
        return {
            "subtype": "pinned_item",
            "text": text,
            "item_type": "C",
            "attachments": [attachment],
        }

    def _whole(self, message: Message) -> Json:
        made = dict(self._made[message])
        if message.files:
            made |= {"files": [self._file(name, message) for name in message.files]}
            made |= {"upload": True, "display_as_bot": False}
        if message.edited:
            made["edited"] = {"user": made["user"], "ts": message.edited}
        if message.pinned:
            made["pinned_to"] = [self.place.id]
        if message.replies:
            made |= self._thread(message)
        if message.parent is not None:
            made |= self._in_thread(message, message.parent)
        if message.reactions:
            made["reactions"] = [
                {"name": name, "users": list(map(user_id, who)), "count": len(who)}
                for name, who in message.reactions.items()
            ]
        return made

    def _file(self, name: str, message: Message) -> Json:
        made = dict(FILES[name])
        if made["mode"] in ("tombstone", "hidden_by_limit"):
            return made
        sent_at = int(message.at.timestamp()) - 2
        times = {"created": sent_at, "timestamp": sent_at}
        return {"id": made["id"], **times, "user": user_id(message.author), **made}

    def _thread(self, message: Message) -> Json:
        replies = sorted(message.replies, key=lambda reply: reply.at)
        who = list(dict.fromkeys(user_id(reply.author) for reply in replies))
        return {
            "thread_ts": message.ts,
            "reply_count": len(replies),
            "reply_users_count": len(who),
            "latest_reply": replies[-1].ts,
            "reply_users": who,
            "replies": [{"user": user_id(r.author), "ts": r.ts} for r in replies],
            "is_locked": False,
            "subscribed": False,
        }

    def _in_thread(self, message: Message, parent: Message) -> Json:
        root = self._made[parent] | self._thread(parent)
        author = root.get("user")
        made: Json = {"thread_ts": parent.ts}
        made |= {"parent_user_id": author} if author else {}
        if message.broadcast:
            names = ("user", "type", "ts", "text", "thread_ts", "reply_count")
            short = {key: root[key] for key in names if key in root}
            made |= {"subtype": "thread_broadcast", "root": short}
        return made


class Utf8Entry(zipfile.ZipInfo):
    """An entry whose name is UTF-8 with no flag that says so, as in Slack's zips."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(), self.flag_bits


class ExportWriter:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, name: str, value: list[Json] | None = None) -> None:
        """Write `value` the way Slack writes JSON; without one, `name` is a folder."""
        entry = Utf8Entry(name, WRITTEN)
        entry.create_system = 3
        entry.external_attr = 0o40755 << 16 if value is None else 0o100644 << 16
        text = ""
        if value is not None:
            entry.compress_type = zipfile.ZIP_DEFLATED
            text = json.dumps(value, indent=4).replace("/", "\\/")
        self._archive.writestr(entry, text, compresslevel=9)


def build(path: Path | str, *, week_later: bool = False) -> dict[str, int]:
    """Write the export to `path`; returns how many of each kind are in it."""
    rooms = [Room(place, week_later) for place in PLACES]
    people = [p for p in PEOPLE.values() if p.listed and (week_later or not p.later)]
    messages = 0
    with zipfile.ZipFile(path, "w") as archive:
        out = ExportWriter(archive)
        for kind in ("channels", "groups", "mpims", "dms"):
            entries = [room.entry() for room in rooms if room.place.kind == kind]
            out.add(f"{kind}.json", entries)
        out.add("users.json", [member(person) for person in people])
        out.add("integration_logs.json", INTEGRATION_LOGS)
        for room in rooms:
            out.add(f"{room.place.folder}/")
            if room.place.id == GENERAL_ID:
                out.add("general/canvas_in_the_conversation.json", CANVAS)
            for day, said in room.days():
                out.add(f"{room.place.folder}/{day}.json", said)
                messages += len(said)
    return {"users": len(people), "rooms": len(rooms), "messages": messages}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", metavar="OUT.zip", type=Path, nargs="?")
    parser.add_argument("--week-later", metavar="OUT.zip", type=Path)
    options = parser.parse_args()
    later: Path | None = options.week_later
    if later is not None and later.is_dir():
        later /= "slack-export-week-later.zip"
    if later is not None:
        print(later, json.dumps(build(later, week_later=True)))
    if later is None or options.path is not None:
        path = options.path or HERE / "slack-export.zip"
        print(path, json.dumps(build(path)))


if __name__ == "__main__":
    main()
