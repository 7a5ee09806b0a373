"""A person starts the import in the moment in which its dry run writes down what it found."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import transaction

from importops.actions.operations import start_operation
from importops.actions.previewing import preview_operation
from importops.engine.previewing import Decisions
from importops.engine.slices import Work, claim_slice
from importops.models import Phase, Status, User
from tests.exports import slack_user, slack_zip
from tests.journeys import EVERYTHING, prepare
from tests.racing import Second


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql
def test_the_start_waits_for_the_batch_and_wins(tmp_path: Path, alice: User) -> None:
    path = slack_zip(tmp_path / "export.zip", users=[slack_user("U1", "ann")])
    operation = prepare(path, alice)
    preview_operation(operation, EVERYTHING, alice, queue=False)
    piece = claim_slice(operation.slices.get(phase=Phase.PREVIEWING).pk)
    assert piece is not None
    work = Work(piece, stop=lambda: False, on_batch=lambda: None)
    decisions = Decisions(work)
    (noted,) = operation.staged.users()
    noted.note = "is ann here"
    decisions._noted = [noted]
    second = Second(lambda: start_operation(operation, EVERYTHING, alice, queue=False))
    with work.batch() as batch:
        decisions._keep(batch)
        second.start_and_wait_for_the_first()
    second.join()

    assert second.error is None
    operation.refresh_from_db()
    assert operation.status == Status.IMPORTING_STARTED
    with transaction.atomic():
        assert not operation.slices.filter(phase=Phase.PREVIEWING).exists()
