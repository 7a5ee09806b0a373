"""Two workers want one slice in the same moment."""

from __future__ import annotations

import pytest
from django.db import transaction

from importops.engine.slices import claim_slice
from importops.models import Phase, Status
from tests.factories import ImportOperationFactory, ImportSliceFactory
from tests.racing import Second


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgresql
def test_one_gets_it_and_the_other_nothing() -> None:
    operation = ImportOperationFactory.create(status=Status.IMPORTING_USERS, phase=Phase.USERS)
    piece = ImportSliceFactory.create(operation=operation, phase=Phase.USERS)
    second = Second(lambda: claim_slice(piece.pk))
    with transaction.atomic():
        assert claim_slice(piece.pk) is not None
        second.start_and_wait_for_the_first()
    second.join()

    assert second.answer is None
    piece.refresh_from_db()
    assert piece.attempt == 1
