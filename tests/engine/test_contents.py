"""Deleting stored contents while their storage is away."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.core.files.storage import default_storage

from importops.engine.contents import Contents
from importops.errors import MustWait


def test_a_storage_that_is_away_is_waited_for_with_the_lease_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def away(name: str) -> None:
        raise MustWait("away")

    kept: list[bool] = []
    work = SimpleNamespace(kept_alive=lambda: kept.append(True) or nullcontext())
    monkeypatch.setattr(default_storage, "delete", away)
    with pytest.raises(MustWait):
        Contents([["file", "files", "file F1", "one"]]).delete_waiting(cast(Any, work))
    assert kept
