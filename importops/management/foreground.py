"""Working on an operation in this process, with its progress shown and signals heeded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError, OutputWrapper
from django.db import DatabaseError, InterfaceError

from importops.actions.operations import cancel_operation
from importops.engine.running import run_operation
from importops.errors import ImportopsError, WorkerStopping
from importops.management.interruption import Interruption
from importops.management.outcome import FAILED
from importops.management.progress_line import progress_line
from importops.models import ImportOperation


@contextmanager
def refusals(returncode: int = FAILED) -> Iterator[None]:
    """Turn what an action refuses into the command's own error."""
    try:
        yield
    except ImportopsError as error:
        raise CommandError(error.message, returncode=returncode) from error


class Foreground:
    """Where progress goes, and how a person stops it."""

    def __init__(self, progress_to: OutputWrapper, words_to: OutputWrapper) -> None:
        self._progress_to = progress_to
        self._words_to = words_to

    def run(self, operation: ImportOperation) -> None:
        """Work until the operation waits for a selection or has ended.

        Raises `CommandError` when a signal ended it early: the first one cancels the operation
        after the batch, so that nobody takes it up behind the person's back; it can be resumed.
        """
        interruption = Interruption(self._tell_of_second_signal)
        try:
            with interruption, progress_line(self._progress_to) as line:
                run_operation(operation, on_progress=line.show, stop=interruption)
        except WorkerStopping:
            raise stopped(self._give_up(operation), operation) from None
        except KeyboardInterrupt:
            raise stopped("Stopped in the middle of a batch.", operation) from None

    def _give_up(self, operation: ImportOperation) -> str:
        try:
            with refusals():
                cancel_operation(operation)
        except (DatabaseError, InterfaceError) as error:
            return f"Stopped, but not cancelled: a worker may go on with it ({error})."
        return "Stopped."

    def _tell_of_second_signal(self) -> None:
        self._words_to.write("Stopping after this batch. Once more to stop at once.")


def stopped(what: str, operation: ImportOperation) -> CommandError:
    command = f"manage.py import_resume {operation.public_id}"
    if not operation.has_started:
        # Nothing was chosen yet, and what is imported is never a guess.
        command += " --users all --channels all (or what else you choose)"
    return CommandError(f"{what} To go on: {command}", returncode=FAILED)
