from __future__ import annotations

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from importops.conf import conf
from importops.tasks.supervisor import Supervisor, worker_children
from importops.tasks.worker import SliceWorker


def at_least_zero(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text} is not a number of processes.")
    return int(text)


class Command(BaseCommand):
    help = "Work on imports in the background, until stopped; a running batch is finished first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--processes",
            type=at_least_zero,
            default=None,
            help="How many worker processes to keep running; 0: only sweep up, for workers that "
            "somebody else runs.",
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
        wanted = conf().worker_processes if processes is None else processes
        self.stdout.write(f"Working on imports with {wanted} process(es). Ctrl-C stops.")
        Supervisor(worker_children(wanted)).run()
