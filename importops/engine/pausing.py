"""A slice that met a trouble from outside: it is given back, the operation says why, and is tried again.

Nobody counts this as a failed try. Waits grow with the length of the pause, from a second to half a
minute, and end for all slices with the first batch that is committed (`refresh_totals`).
"""

from __future__ import annotations

from collections.abc import Callable

from django.utils import timezone

from importops.engine.outside import growing, mend_connection, nap, reason_to_wait, remind
from importops.engine.slices import release_slice, settle_stopped
from importops.models import ImportOperation, ImportSlice

SHORTEST_WAIT = 1.0
LONGEST_WAIT = 30.0
LONGEST_WRITE_WAIT = 5.0


def pause(
    piece: ImportSlice,
    reason: str,
    *,
    stop: Callable[[], bool],
    on_wait: Callable[[str], None] = lambda reason: None,
) -> None:
    """Give the slice back for a later try, and show why it could not get on.

    While the database does not even take that, stays here and tries again, until `stop()`: there is
    nothing else to do, and so the import goes on at once when the database is back, instead of when
    the lease has run out. `on_wait` is told why, at each try.
    """
    remind(f"operation {piece.operation_id} waits", reason)
    for seconds in growing(SHORTEST_WAIT / 2, LONGEST_WRITE_WAIT):
        try:
            mend_connection()
            _give_back(piece, reason)
            return
        except Exception as error:
            trouble = reason_to_wait(error)
            if trouble is None:
                raise
            remind("the pause of an import cannot be noted", trouble)
            on_wait(trouble)
        nap(seconds, stop)
        if stop():
            return


def _give_back(piece: ImportSlice, reason: str) -> None:
    if release_slice(piece, wait=_next_wait(piece.operation_id), forgive=True):
        show_pause(piece.operation_id, reason)
    # Whoever was asked to stop meanwhile need not wait for the next try.
    settle_stopped(piece.operation_id)


def _next_wait(operation_id: int) -> float:
    """As long again as it has waited already. `updated_at` stands still while nothing is committed."""
    operation = ImportOperation.objects.only("updated_at", "paused_because").get(pk=operation_id)
    if not operation.paused_because:
        return SHORTEST_WAIT
    waited = (timezone.now() - operation.updated_at).total_seconds()
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, waited))


def show_pause(operation_id: int, reason: str) -> None:
    """Let everybody who asks see why the operation does not get on."""
    ImportOperation.objects.filter(pk=operation_id).exclude(paused_because=reason).update(
        paused_because=reason
    )
