from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from importops.conf import conf
from importops.tasks.supervisor import Supervisor, worker_children
from importops.tasks.worker import SliceWorker


class Command(BaseCommand):
    help = "Work on imports in the background, until stopped; a running batch is finished first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--processes",
            type=int,
            default=None,
            help="How many worker processes to keep running.",
        )
        parser.add_argument(
            "--child",
            action="store_true",
            help="Be one of those processes (used by the supervisor itself).",
        )

    def handle(self, *, processes: int | None, child: bool, **options: Any) -> None:
        if child:
            worker = SliceWorker()
            worker.configure_signals()
            worker.run()
            return
        wanted = processes or conf().worker_processes
        self.stdout.write(f"Working on imports with {wanted} process(es). Ctrl-C stops.")
        Supervisor(worker_children(wanted)).run()
