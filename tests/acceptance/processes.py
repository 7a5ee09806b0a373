"""Work in processes of their own, which can really be killed; and an empty workspace."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.context import ForkProcess

from django.db import connections

from importops.models import (
    File,
    Membership,
    Message,
    Room,
    RoomImportId,
    User,
    UserEmail,
    UserImportId,
)


def start_process(work: Callable[[], None]) -> ForkProcess:
    """Begin `work` in a child process, which ends with 0 when it is done."""
    connections.close_all()

    def body() -> None:
        work()
        connections.close_all()
        sys.exit(0)

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    return child


def in_a_process(work: Callable[[], None], kill_after: float | None = None) -> bool:
    """Run `work` in a child process; True if it ended by itself, False if it had to be killed."""
    child = start_process(work)
    child.join(kill_after)
    if child.is_alive():
        child.kill()
        child.join()
        return False
    assert child.exitcode == 0
    return True


def empty_workspace() -> None:
    for model in (File, Message, Membership, RoomImportId, Room, UserEmail, UserImportId):
        model.objects.all().delete()
    User.objects.exclude(operation=None).delete()
