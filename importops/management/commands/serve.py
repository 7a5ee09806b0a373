from __future__ import annotations

import socket
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from importops.tasks.serving import serve


class Command(BaseCommand):
    help = "Run the web server and the import worker together; Ctrl-C stops both."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--address",
            default="127.0.0.1",
            help="Address to listen on; 0.0.0.0 lets other machines in.",
        )
        parser.add_argument("--port", type=int, default=3000)

    def handle(self, *, address: str, port: int, **options: Any) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as error:
                raise CommandError(
                    f"Cannot listen on {address} port {port}: {error.strerror}. "
                    "Stop what uses it, or choose another port (make serve PORT=3001)."
                ) from error
        self.stdout.write(f"importops is at http://{address}:{port}/ (Ctrl-C stops it)")
        self.stdout.flush()
        serve(address, port)
