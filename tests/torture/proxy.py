"""A line to a server that can be cut: between two bytes of a statement, or all at once."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """Passes bytes on between clients and `port`, until told to cut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = threading.Lock()
        self._left: int | None = None
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, size: int) -> None:
        """Cut the line that carries the `size`th byte from now on to the server."""
        with self._lock:
            self._left = size

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for pair in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(16384):
                allowed = self._allowed(len(data)) if counted else None
                target.sendall(data if allowed is None else data[:allowed])
                if allowed is not None:
                    break
        _reset(source)
        _reset(target)

    def _allowed(self, size: int) -> int | None:
        """How many of the next `size` bytes may pass before the cut; None: no cut."""
        with self._lock:
            if self._left is None:
                return None
            if self._left >= size:
                self._left -= size
                return None
            allowed, self._left = self._left, None
            self.cuts += 1
            return allowed


def _reset(line: socket.socket) -> None:
    """End it with a reset, as a firewall would, not with a polite close."""
    with suppress(OSError):
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.shutdown(socket.SHUT_RDWR)
    line.close()
