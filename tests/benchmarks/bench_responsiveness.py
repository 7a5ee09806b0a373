"""How the site answers while an import runs on SQLite: `serve` and its worker as real processes.

    python tests/benchmarks/bench_responsiveness.py [--messages 300000] [--idle 10]

One client asks, one thing after the other: the seed endpoint, an admin page of somebody who is logged
in, a saved admin form, a login. First while nothing else goes on, then while the messages of an export
come in, then idle again; idle is both together, so that a machine that drifts shows in it. Prints
a table, and one JSON line.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from pathlib import Path

from bench_seed import PATH, ROOT, free_port, wait_until_open
from generate import build

PASSWORD = "correct horse battery staple"
SEED_GOAL, WRITE_GOAL = 5.0, 250.0
WRITES = ("form", "login")


class Form(HTMLParser):
    """The values of a page's fields, as a browser would send them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: list[tuple[str, str]] = []
        self._select = self._area = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = {name: value or "" for name, value in attrs}
        name, kind = fields.get("name", ""), fields.get("type", "text")
        if tag == "select":
            self._select = name
        elif tag == "textarea":
            self._area = name
            self.values.append((name, ""))
        elif tag == "option" and "selected" in fields and self._select:
            self.values.append((self._select, fields.get("value", "")))
        elif tag == "input" and name and kind not in ("submit", "file", "search", "button"):
            box = kind in ("checkbox", "radio")
            if not box or "checked" in fields:
                self.values.append((name, fields.get("value", "on" if box else "")))

    def handle_data(self, data: str) -> None:
        if self._area:
            name, value = self.values[-1]
            self.values[-1] = (name, value + data.lstrip("\n"))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("select", "textarea"):
            self._select = self._area = ""


class Browser:
    """Keeps cookies; every request on the one connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.cookies: dict[str, str] = {}
        self.used_at = time.monotonic()

    def ask(
        self, path: str, form: list[tuple[str, str]] | None = None, **headers: str
    ) -> tuple[int, str]:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = None
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form)
        if time.monotonic() - self.used_at > 1:
            self.connection.close()  # the server gives up a connection that rests
        self.used_at = time.monotonic()
        self.connection.request("GET" if form is None else "POST", path, body, headers)
        response = self.connection.getresponse()
        text = response.read().decode()
        for cookie in response.headers.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return response.status, text


class Person:
    """What is asked for, each a request that is timed alone."""

    def __init__(self, port: int, headers: dict[str, str], user: str) -> None:
        self.port, self.headers = port, headers
        self.path = f"/admin/importops/user/{user}/change/"
        self.browser, self.poller = Browser(port), Browser(port)
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.log_in(self.browser)
        self.form = Form(self.get(self.path)).values

    def get(self, path: str) -> str:
        status, page = self.browser.ask(path)
        assert status == 200, (path, status, page[:500])
        return page

    def log_in(self, browser: Browser) -> float:
        _, page = browser.ask("/admin/login/")
        fields = [pair for pair in Form(page).values if pair[0] not in ("username", "password")]
        form = [*fields, ("username", "admin"), ("password", PASSWORD)]
        began = time.perf_counter()
        status, page = browser.ask("/admin/login/", form)
        took = time.perf_counter() - began
        assert status == 302, (status, page[:2000])
        return took

    def timed(self, kind: str, request: Callable[[], object]) -> None:
        began = time.perf_counter()
        request()
        self.times[kind].append(time.perf_counter() - began)

    def save(self) -> None:
        status, page = self.browser.ask(self.path, [*self.form, ("_save", "Save")])
        assert status == 302, (status, page[page.find("errorlist") :][:500])

    def poll(self) -> None:
        status, page = self.poller.ask(PATH, **self.headers)
        assert status == 200, (status, page)

    def go_round(self, number: int) -> None:
        for _ in range(3):
            self.timed("seed", self.poll)
        self.timed("page", lambda: self.get("/admin/importops/importoperation/"))
        self.timed("form", self.save)
        if number % 3 == 0:
            browser = Browser(self.port)
            self.times["login"].append(self.log_in(browser))
            browser.connection.close()

    def take(self) -> dict[str, list[float]]:
        times, self.times = dict(self.times), defaultdict(list)
        return times


@contextmanager
def serving(environ: dict[str, str], port: int) -> Iterator[None]:
    with (Path(environ["IMPORTOPS_DATA_DIR"]) / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", "--port", str(port)],
            cwd=ROOT, env=environ, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_until_open(port, process)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def look(folder: Path, sql: str) -> str:
    with closing(sqlite3.connect(folder / "importops.sqlite3", timeout=30)) as database:
        row = database.execute(sql).fetchone()
    return str(row and row[0])


def status(folder: Path) -> str:
    return look(folder, "SELECT status FROM importops_importoperation ORDER BY id DESC LIMIT 1")


def wait_for(folder: Path, *wanted: str) -> None:
    while (now := status(folder)) not in wanted:
        if "failed" in now:
            raise SystemExit(now)
        time.sleep(0.1)


def measure(folder: Path, messages: int, idle: float) -> dict[str, dict[str, float]]:
    environ = os.environ | {
        "IMPORTOPS_DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    environ.pop("DATABASE_URL", None)

    def run(*command: object) -> str:
        return subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=ROOT, env=environ, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip

    export = folder / "export.zip"
    build(export, messages=messages)
    run("manage.py", "bootstrap", "--password", PASSWORD)
    lines = run("manage.py", "create_token", "admin").splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    port = free_port()
    with serving(environ, port):
        run("-m", "tests.tasks.installation", "queue", export)
        wait_for(folder, "importer_user_selection")
        admin = look(folder, "SELECT id FROM importops_user WHERE username = 'admin'")
        person = Person(port, headers, admin)
        for number in range(10):
            person.go_round(number)
        person.take()

        def rest() -> None:
            until, number = time.monotonic() + idle, 0
            while time.monotonic() < until:
                person.go_round(number)
                number += 1

        rest()
        before = person.take()
        run("-m", "tests.tasks.installation", "start")
        wait_for(folder, "importer_importing_messages", "importer_done")
        number, began = 0, time.monotonic()
        while status(folder) == "importer_importing_messages":
            person.go_round(number)
            number += 1
        took = time.monotonic() - began
        during = person.take()
        wait_for(folder, "importer_done")
        rest()
        after = person.take()
    print(f"{messages:,} messages came in within {took:.1f} s while {number} rounds were asked")
    quiet = {kind: before[kind] + after[kind] for kind in before}
    return {kind: figures(quiet[kind], during[kind]) for kind in quiet} | {
        "import": {"seconds": round(took, 1), "messages": messages}
    }


def figures(idle: list[float], busy: list[float]) -> dict[str, float]:
    idle, busy = sorted(idle), sorted(busy)

    def ms(times: list[float], share: float) -> float:
        return round(times[min(len(times) - 1, int(len(times) * share))] * 1000, 1)

    return {
        "asked": len(busy),
        **{f"idle_p{n}": ms(idle, n / 100) for n in (50, 99)},
        **{f"busy_p{n}": ms(busy, n / 100) for n in (50, 95, 99, 100)},
        "ratio_p99": round(ms(busy, 0.99) / ms(idle, 0.99), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=300_000)
    parser.add_argument("--idle", type=float, default=10)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory(prefix="importops-bench-") as name:
        result = measure(Path(name), options.messages, options.idle)
    for kind, row in result.items():
        if kind == "import":
            continue
        goal = (
            f"p99 under {WRITE_GOAL:.0f} ms" if kind in WRITES else f"ratio under {SEED_GOAL:.0f}"
        )
        print(
            f"{kind:6} idle p50 {row['idle_p50']:6.1f} p99 {row['idle_p99']:6.1f}   importing p50 "
            f"{row['busy_p50']:6.1f} p95 {row['busy_p95']:6.1f} p99 {row['busy_p99']:6.1f} max "
            f"{row['busy_p100']:7.1f} ms   ratio of p99 {row['ratio_p99']:.2f} "
            f"({row['asked']} asked; goal {goal})"
        )
    print(json.dumps({"bench": "responsiveness", **result}))


if __name__ == "__main__":
    main()
