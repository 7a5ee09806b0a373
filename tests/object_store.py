"""An S3 server with somebody in front of it who counts what is asked for, and breaks answers."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from importops.deployment import ObjectStore
from tests.servers import s3_server

BUCKET = "exports"


class Front(ThreadingHTTPServer):
    """Passes requests on. `ranges` are those asked for; of the next `breaking` the answer is cut."""

    daemon_threads = True

    def __init__(self, behind: int) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.behind = behind
        self.ranges: list[tuple[int, int]] = []
        self.whole: list[str] = []
        self.breaking = 0
        self.refusing = 0
        self.lock = threading.Lock()

    @property
    def asked(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def note(self, method: str, path: str, asked: str | None) -> str:
        """Keep what is asked for; what to do with the answer."""
        with self.lock:
            if method != "GET":
                return ""
            if asked is None:
                self.whole.append(path)
                return ""
            start, stop = asked.removeprefix("bytes=").split("-")
            self.ranges.append((int(start), int(stop) + 1))
            if self.breaking:
                self.breaking -= 1
                return "break"
            if self.refusing:
                self.refusing -= 1
                return "refuse"
            return ""


class Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def log_message(self, *arguments: Any) -> None:
        pass

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        trouble = self.server.note(self.command, self.path, self.headers.get("Range"))
        if trouble == "refuse":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        behind.request(self.command, self.path, body, headers)
        answer = behind.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("date", "server", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        if trouble == "break":
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(content)
        behind.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on


@contextmanager
def object_store(folder: Path, **environment: str) -> Iterator[Front]:
    """A store with an empty bucket."""
    with s3_server(folder, **environment) as port, Front(port) as front:
        threading.Thread(target=front.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield front
        front.shutdown()


def settings_of(front: Front, **changes: str) -> ObjectStore:
    own = {"bucket": BUCKET, "endpoint": front.endpoint, "region": "us-east-1"}
    return ObjectStore(**{**own, "access_key": "key", "secret_key": "secret", **changes})
