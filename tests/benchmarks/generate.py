"""Large Slack exports for benchmarks, written front to back in flat memory.

    python tests/benchmarks/generate.py OUT.zip --messages 500000 --seed 7 --per-day 25
    python tests/benchmarks/generate.py OUT.zip --sparse-entries 1000000

The same arguments give the same JSON. Of a room, only the threads still open are in
memory: a thread's replies are planned when it starts, which is possible because the
time of a room's n-th message follows from n alone. Of the zip, nothing is: its
directory waits in a temporary file.

Shape (per hundred messages, about): 15 replies in 11 threads, 10 with reactions, 3 with
a file, 25 with a mention, 3 edited, 2 joins or leaves, 2 by a bot without a user, 70
with rich-text blocks; 1.3 KB each, indented, slashes and everything but ASCII escaped,
as Slack does. `(room, ts)` is unique. With `--sparse-entries` there is one tiny message
per room and day instead.

Prints one JSON line telling what was written.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

Json = dict[str, Any]
Kind = Literal["channels", "groups", "mpims", "dms"]
Line = tuple[str, str]
"""(day, one message as JSON text)."""

TEAM = "T02BENCH01"
START = 1_609_718_400
"""2021-01-04, a Monday."""
DAYS = 730
"""Days that an export spans; a quiet room has messages on some of them only."""
DAY = 86_400_000_000

TEXT = """
    agenda again alert already anybody backlog because before board branch broke
    budget build calendar call can canary check client close coffee commit config
    could customer dashboard data deadline debug deploy design desk disk done draft
    drop early error estimate event evening every export failed feature feedback
    fine fix flag folder follow forecast forgot friday from going graph green happy
    have here hotfix idea import inbox index instead invoice issue join keep later
    latency launch leave limit list local login looks lunch maybe meeting merge
    metrics migration minute monday monitor morning name need never next nobody noon
    note number office once only open order outage owner page patch pipeline plan
    please print probably prod pull quarter query queue question queued ready really
    release report restart retry review rollback rolling room sales scale schedule
    schema second server setup ship should slow someone soon sprint stage standup
    start stuck support switch table team test thanks them then ticket today token
    tomorrow tonight trace train tuesday under until update upgrade urgent usage
    user vendor version wait warning week when which while will window with worker
    yesterday açaí crème façade jalapeño naïve piñata smörgås über żółty новости 会議
    🎉
"""
VOCABULARY = TEXT.split()
WORDS = [json.dumps(word)[1:-1] for word in VOCABULARY]
EMOJI = ["+1", "heart", "tada", "eyes", "joy", "rocket", "white_check_mark", "pray"]
EMOJI += ["fire", "clap", "wave::skin-tone-4"]
KINDS_OF_FILE = (
    ("png", "image/png"),
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("zip", "application/zip"),
)

BLOCKS = """,
        "blocks": [
            {
                "type": "rich_text",
                "block_id": "%05x",
                "elements": [
                    {
                        "type": "rich_text_section",
                        "elements": [
                            {
                                "type": "text",
                                "text": "%s"
                            }
                        ]
                    }
                ]
            }
        ]"""
HUMAN = """    {
        "user": "%s",
        "type": "message",
        "ts": "%s",
        "client_msg_id": "%s",
        "text": "%s",
        "team": "T02BENCH01",
        "user_team": "T02BENCH01",
        "source_team": "T02BENCH01",
        "user_profile": %s"""
BOT = """    {
        "type": "message",
        "subtype": "bot_message",
        "text": "%s",
        "ts": "%s",
        "username": "buildbot",
        "bot_id": "B02BUILD01\""""
COMING_OR_GOING = """    {
        "user": "%s",
        "type": "message",
        "ts": "%s",
        "subtype": "channel_%s",
        "text": "<@%s> has %s the channel\""""
EDITED = """,
        "edited": {
            "user": "%s",
            "ts": "%d.000000"
        }"""
REPLY = """,
        "thread_ts": "%s",
        "parent_user_id": "%s\""""
TINY = '[{"type":"message","user":"%s","text":"%s","ts":"%d.%06d"}]'


class ZipStream:
    """A zip written entry by entry. Memory grows neither with entries nor their size.

    (`zipfile` keeps more than half a kilobyte per entry: 600 MiB for a million.)
    """

    LOCAL = struct.Struct("<4s5H3L2H")
    CENTRAL = struct.Struct("<4s6H3L5H2L")
    STAMP = (0, (2023 - 1980) << 9 | 1 << 5 | 5)
    """Midnight of 2023-01-05, always, as (time, date)."""
    MAX_32 = 0xFFFFFFFF

    def __init__(self, path: Path, level: int) -> None:
        self._out: BinaryIO = path.open("wb", buffering=1 << 20)
        self._directory = tempfile.TemporaryFile(buffering=1 << 20)  # noqa: SIM115
        self._level = level
        self._at = 0
        self.entries = 0
        self.unpacked = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def packed(self) -> int:
        """Bytes written so far; the whole file's size once it is closed."""
        return self._at

    def add(self, name: str, pieces: Iterable[str]) -> None:
        """Write one entry. Its header is patched when the sizes are known."""
        encoded = name.encode()
        start, size, packed, crc = self._at, 0, 0, 0
        self._put(self._local(encoded, crc, packed, size))
        deflate = zlib.compressobj(self._level, zlib.DEFLATED, -15)
        for piece in pieces:
            data = piece.encode("ascii")
            crc, size = zlib.crc32(data, crc), size + len(data)
            packed += self._put(deflate.compress(data))
        packed += self._put(deflate.flush())
        if max(size, packed) >= self.MAX_32:
            raise ValueError(f"{name}: entries of 4 GiB and more are not written")
        self._out.seek(start)
        self._out.write(self._local(encoded, crc, packed, size))
        self._out.seek(self._at)
        self._list(encoded, start, (crc, packed, size))
        self.entries += 1
        self.unpacked += size

    def _put(self, data: bytes) -> int:
        self._out.write(data)
        self._at += len(data)
        return len(data)

    def _local(self, name: bytes, crc: int, packed: int, size: int) -> bytes:
        numbers = (20, 0, zlib.DEFLATED, *self.STAMP, crc, packed, size, len(name), 0)
        return self.LOCAL.pack(b"PK\3\4", *numbers) + name

    def _list(self, name: bytes, start: int, sums: tuple[int, int, int]) -> None:
        extra = struct.pack("<2HQ", 1, 8, start) if start >= self.MAX_32 else b""
        versions = (45, 45) if extra else (20, 20)
        head = (*versions, 0, zlib.DEFLATED, *self.STAMP, *sums, len(name))
        tail = (len(extra), 0, 0, 0, 0, min(start, self.MAX_32))
        row = self.CENTRAL.pack(b"PK\1\2", *head, *tail)
        self._directory.write(row + name + extra)

    def close(self) -> None:
        """Append the directory and its end records, the ZIP64 ones always."""
        start, size = self._at, self._directory.tell()
        self._directory.seek(0)
        shutil.copyfileobj(self._directory, self._out)
        self._directory.close()
        self._at = end = start + size
        where = (0, 0, self.entries, self.entries, size, start)
        self._put(b"PK\6\6" + struct.pack("<Q2H2L4Q", 44, 45, 45, *where))
        self._put(b"PK\6\7" + struct.pack("<LQL", 0, end, 1))
        small = (min(self.entries, 0xFFFF),) * 2
        bounds = (min(size, self.MAX_32), min(start, self.MAX_32))
        self._put(b"PK\5\6" + struct.pack("<4H2LH", 0, 0, *small, *bounds, 0))
        self._out.close()


@dataclass(frozen=True, slots=True)
class Room:
    kind: Kind
    folder: str
    members: list[str]
    weight: float
    json: Json


def slack_id(prefix: str, number: int) -> str:
    """An id that looks like Slack's; unique per number."""
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    number = number * 11_400_714_819_323 % 36**9
    out = ""
    for _ in range(9):
        number, digit = divmod(number, 36)
        out += letters[digit]
    return prefix + out


def render(value: object, indent: int = 0) -> str:
    """JSON as Slack writes it, for a place that is `indent` levels deep."""
    text = json.dumps(value, indent=4).replace("/", "\\/")
    return text.replace("\n", "\n" + "    " * indent)


def make_users(count: int, rnd: random.Random) -> Iterator[Json]:
    """Members: of a hundred, 2 are bots, 5 have left, 33 have a display name."""
    for n in range(count):
        first, last = (rnd.choice(VOCABULARY[:100]).capitalize() for _ in range(2))
        login, real_name = f"{first.lower()}.{n}", f"{first} {last}"
        profile = {
            "title": "",
            "phone": "",
            "real_name": real_name,
            "real_name_normalized": real_name,
            "display_name": first if n % 3 == 0 else "",
            "status_text": "",
            "status_emoji": "",
            "avatar_hash": f"{rnd.getrandbits(48):012x}",
            "email": f"{login}@example.com",
            "first_name": first,
            "last_name": last,
            "image_512": f"https://avatars.example.com/{n}_512.png",
            "team": TEAM,
        }
        yield {
            "id": slack_id("U", n + 1),
            "team_id": TEAM,
            "name": login,
            "deleted": n % 20 == 11,
            "real_name": real_name,
            "tz": "Europe/Lisbon",
            "tz_label": "Western European Time",
            "tz_offset": 0,
            "profile": profile,
            "is_admin": n < 2,
            "is_owner": n == 0,
            "is_restricted": False,
            "is_ultra_restricted": False,
            "is_bot": n % 50 == 49,
            "is_app_user": False,
            "updated": 1_600_000_000 + n,
        }


def short_profile(user: Json) -> str:
    """The `user_profile` that every message repeats, rendered once."""
    profile = user["profile"]
    short = {
        "avatar_hash": profile["avatar_hash"],
        "image_72": profile["image_512"].replace("512", "72"),
        "first_name": profile["first_name"],
        "real_name": profile["real_name"],
        "display_name": profile["display_name"],
        "team": TEAM,
        "name": user["name"],
        "is_restricted": False,
        "is_ultra_restricted": False,
    }
    return render(short, 2)


def make_rooms(count: int, users: list[str], rnd: random.Random) -> list[Room]:
    """Rooms, the busiest channel first; of 205: 60 channels, 15 groups, 10 mpims."""
    groups, mpims, dms = count * 15 // 205, count * 10 // 205, count * 120 // 205
    plan: tuple[tuple[Kind, int], ...] = (
        ("channels", count - groups - mpims - dms),
        ("groups", groups),
        ("mpims", mpims),
        ("dms", dms),
    )
    rooms: list[Room] = []
    for kind, number in plan:
        for rank in range(number):
            rooms.append(make_room(kind, rank, len(rooms) + 1, users, rnd))
    return rooms


def make_room(kind: Kind, rank: int, number: int, users: list[str], rnd: random.Random) -> Room:
    sizes = {
        "channels": 20 + rnd.randrange(400),
        "groups": 5 + rnd.randrange(30),
        "mpims": 4,
        "dms": 2,
    }
    weights = {"channels": 100 / (1 + rank) ** 0.7, "groups": 10, "mpims": 3}
    members = rnd.sample(users, min(len(users), sizes[kind]))
    identity = slack_id({"channels": "C", "dms": "D"}.get(kind, "G"), number)
    made = {"id": identity, "created": 1_600_000_000 + number, "members": members}
    if kind == "dms":
        return Room(kind, identity, members, 1.5, made)
    logins = "--".join(member.lower() for member in members)
    names = {"channels": f"topic-{rank}", "groups": f"private-{rank}"}
    name = names.get(kind) or f"mpdm-{logins}-1"
    about = {"creator": members[0], "last_set": 1_600_000_000 + number}
    made |= {
        "name": name,
        "creator": members[0],
        "is_archived": rank % 10 == 9,
        "is_general": kind == "channels" and rank == 0,
        "topic": {"value": f"This week in {name}", **about},
        "purpose": {"value": f"Questions & answers: {name}", **about},
    }
    return Room(kind, name, members, weights[kind], made)


class RoomWriter:
    """The messages of one room, oldest first; holds no more than its open threads."""

    def __init__(
        self,
        room: Room,
        profiles: dict[str, str],
        rnd: random.Random,
        stats: Counter[str],
    ) -> None:
        self._members = room.members
        self._profiles = profiles
        self._rnd = rnd
        self._stats = stats
        self._replies: dict[int, tuple[str, str, str]] = {}
        """Number of a coming message -> (thread, who started it, who replies)."""

    def lines(self, count: int, per_day: int) -> Iterator[Line]:
        """`count` messages, `per_day` on as many days as that takes, or more on all."""
        self._count = count
        self._active_days = max(1, min(DAYS, count // per_day))
        self._step = self._active_days * DAY // (count + 1)
        rnd, members = self._rnd, self._members
        day, last = "", -1
        for n in range(count):
            us = self._time(n)
            if us // DAY != last:
                last = us // DAY
                day = time.strftime("%Y-%m-%d", time.gmtime(us // 1_000_000))
            planned = self._replies.pop(n, None)
            if planned is not None:
                text = self._human(n, us, planned[2], planned)
            elif (chance := rnd.random()) > 0.048:
                text = self._human(n, us, rnd.choice(members), None)
            elif chance > 0.024:
                text = self._bot(us)
            else:
                text = self._coming_or_going(us, joined=chance > 0.012)
            yield day, text + "\n    }"

    def _time(self, n: int) -> int:
        """When the n-th message is sent, in microseconds: rising, known beforehand."""
        at = n * self._step + n * 2_654_435_761 % self._step
        day = at // DAY * DAYS // self._active_days
        return START * 1_000_000 + day * DAY + at % DAY

    def _ts(self, us: int) -> str:
        return f"{us // 1_000_000}.{us % 1_000_000:06d}"

    def _text(self) -> str:
        """Random words, already escaped for JSON."""
        rnd = self._rnd
        words = rnd.choices(WORDS, k=3 + int(rnd.expovariate(1 / 14)))
        if rnd.random() < 0.25:
            words.insert(0, f"<@{rnd.choice(self._members)}>")
        if rnd.random() < 0.05:
            page = rnd.randrange(10_000)
            words.append(f"<https:\\/\\/wiki.example.com\\/p\\/{page}|notes &amp; more>")
        if rnd.random() < 0.03:
            words.append("*so* _that_ `is`\\n```\\nif a &lt; b:\\n```\\n<!here> :eyes:")
        return " ".join(words)

    def _coming_or_going(self, us: int, joined: bool) -> str:
        self._stats["joins_leaves"] += 1
        user = self._rnd.choice(self._members)
        kind, verb = ("join", "joined") if joined else ("leave", "left")
        return COMING_OR_GOING % (user, self._ts(us), kind, user, verb)

    def _bot(self, us: int) -> str:
        self._stats["bots"] += 1
        return BOT % (self._text(), self._ts(us)) + self._reactions()

    def _human(self, n: int, us: int, user: str, reply: tuple[str, str, str] | None) -> str:
        rnd, stats, text, ts = self._rnd, self._stats, self._text(), self._ts(us)
        key = f"{rnd.getrandbits(128):032x}"
        key = f"{key[:8]}-{key[8:12]}-4{key[13:16]}-a{key[17:20]}-{key[20:]}"
        out = HUMAN % (user, ts, key, text, self._profiles[user])
        if rnd.random() < 0.73:
            out += BLOCKS % (rnd.getrandbits(20), text)
        if rnd.random() < 0.03:
            out += EDITED % (user, us // 1_000_000 + 60)
            stats["edited"] += 1
        if reply is not None:
            out += REPLY % (reply[0], reply[1])
            stats["replies"] += 1
        elif rnd.random() < 0.136:
            out += self._start_thread(n, ts, user)
        if rnd.random() < 0.03:
            out += self._file(us, user)
        return out + self._reactions()

    def _start_thread(self, n: int, ts: str, user: str) -> str:
        """Plan who will reply, and when; what the first message tells of it."""
        rnd = self._rnd
        numbers: list[int] = []
        at = n
        for _ in range(1 + int(rnd.expovariate(1.328))):
            at += 1 + int(rnd.expovariate(1 / 8))
            while at in self._replies:
                at += 1
            if at < self._count:
                numbers.append(at)
                self._replies[at] = (ts, user, rnd.choice(self._members))
        if not numbers:
            return ""
        self._stats["threads"] += 1
        replies = [{"user": self._replies[at][2], "ts": self._ts(self._time(at))} for at in numbers]
        who = list(dict.fromkeys(reply["user"] for reply in replies))
        thread = {
            "thread_ts": ts,
            "reply_count": len(replies),
            "reply_users_count": len(who),
            "latest_reply": replies[-1]["ts"],
            "reply_users": who[:5],
            "replies": replies,
            "is_locked": False,
            "subscribed": False,
        }
        return "," + render(thread, 1)[1:-6]

    def _file(self, us: int, user: str) -> str:
        rnd, number = self._rnd, self._stats["files"] + 1
        self._stats["files"] = number
        suffix, mime_type = rnd.choice(KINDS_OF_FILE)
        identity = slack_id("F", number)
        base = f"https://files.example.com/files-pri/{TEAM}-{identity}"
        file = {
            "id": identity,
            "created": us // 1_000_000,
            "timestamp": us // 1_000_000,
            "name": f"minutes {number}.{suffix}",
            "title": f"Minutes {number}",
            "mimetype": mime_type,
            "filetype": suffix,
            "pretty_type": suffix.upper(),
            "user": user,
            "editable": False,
            "size": rnd.randrange(200, 8_000_000),
            "mode": "hosted",
            "is_external": False,
            "is_public": True,
            "url_private": f"{base}/minutes.{suffix}",
            "url_private_download": f"{base}/download/minutes.{suffix}",
            "permalink": f"https://bench.example.com/files/{user}/{identity}/",
        }
        return ',\n        "files": ' + render([file], 2) + ',\n        "upload": true'

    def _reactions(self) -> str:
        """Reactions, on one message in ten: mostly one emoji by one person."""
        rnd, members = self._rnd, self._members
        if rnd.random() >= 0.105:
            return ""
        reactions = []
        for name in rnd.sample(EMOJI, 1 + int(rnd.random() ** 2 * 3)):
            number = min(len(members), 1 + int(rnd.random() ** 3 * 5))
            users = rnd.sample(members, number)
            self._stats["reactions"] += number
            reactions.append({"name": name, "users": users, "count": number})
        self._stats["reacted"] += 1
        return ',\n        "reactions": ' + render(reactions, 2)


def shares(rooms: list[Room], messages: int) -> list[int]:
    """How many messages each room gets, by weight; the first one takes what is left."""
    total = sum(room.weight for room in rooms)
    counts = [int(messages * room.weight / total) for room in rooms]
    counts[0] += messages - sum(counts)
    return counts


def list_of(items: Iterable[str]) -> Iterator[str]:
    """The pieces of a JSON array of items that are already indented."""
    before = "[\n"
    for item in items:
        yield before
        yield item
        before = ",\n"
    yield "[]" if before == "[\n" else "\n]"


def write_directory(out: ZipStream, users: Iterable[Json], rooms: list[Room]) -> None:
    out.add("users.json", list_of("    " + render(user, 1) for user in users))
    for kind in ("channels", "groups", "dms", "mpims"):
        made = (room.json for room in rooms if room.kind == kind)
        out.add(f"{kind}.json", list_of("    " + render(room, 1) for room in made))


def write_days(
    out: ZipStream,
    rooms: list[Room],
    counts: list[int],
    lines: Callable[[Room, int], Any],
) -> None:
    """One entry per room and day, each written while its messages are being made."""
    for room, count in zip(rooms, counts, strict=True):
        for day, group in groupby(lines(room, count), key=itemgetter(0)):
            out.add(f"{room.folder}/{day}.json", list_of(text for _, text in group))


def write_sparse_days(out: ZipStream, rooms: list[Room], entries: int) -> None:
    """One entry per room and day with one tiny message, `entries` in all."""
    days = [time.strftime("%Y-%m-%d", time.gmtime(START + n * 86_400)) for n in range(DAYS)]
    for n in range(entries):
        room_number, day_number = divmod(n, DAYS)
        room = rooms[room_number]
        user = room.members[n % len(room.members)]
        at = START + day_number * 86_400 + n % 86_400
        tiny = TINY % (user, WORDS[n % len(WORDS)], at, n % 1_000_000)
        out.add(f"{room.folder}/{days[day_number]}.json", (tiny,))


def build(
    path: Path | str,
    messages: int = 500_000,
    *,
    seed: int = 7,
    per_day: int = 25,
    rooms: int | None = None,
    users: int | None = None,
    sparse_entries: int = 0,
) -> Json:
    """Write an export to `path`; returns what is in it.

    `sparse_entries` other than 0 overrides `messages`: so many day files of one message
    each. Unless told, there is a member for 250 messages, and there are 34 rooms for
    50,000 messages, 205 from 300,000 on, or as many as sparse entries need.
    """
    rnd, stats = random.Random(seed), Counter[str]()
    messages = sparse_entries or messages
    least = -(-sparse_entries // DAYS)
    room_count = max(rooms or max(15, min(205, messages * 205 // 300_000)), least)
    user_count = max(4, users or max(50, messages // 250))
    profiles = {u["id"]: short_profile(u) for u in make_users(user_count, rnd)}
    made = make_rooms(room_count, list(profiles), rnd)
    with ZipStream(Path(path), level=1 if sparse_entries else 6) as out:
        write_directory(out, make_users(user_count, random.Random(seed)), made)
        if sparse_entries:
            write_sparse_days(out, made, sparse_entries)
        else:

            def lines(room: Room, count: int) -> Iterator[Line]:
                return RoomWriter(room, profiles, rnd, stats).lines(count, per_day)

            write_days(out, made, shares(made, messages), lines)
    memberships = sum(len(room.members) for room in made)
    return {
        "messages": messages,
        "users": user_count,
        "rooms": len(made),
        "memberships": memberships,
        **stats,
        "entries": out.entries,
        "json_bytes": out.unpacked,
        "zip_bytes": out.packed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", metavar="OUT.zip", type=Path)
    parser.add_argument("--messages", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--per-day", type=int, default=25)
    parser.add_argument("--rooms", type=int)
    parser.add_argument("--users", type=int)
    parser.add_argument("--sparse-entries", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    written = build(**vars(options))
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({**written, "seconds": seconds}))


if __name__ == "__main__":
    main()
