"""What in the database refers to an account, whichever app the table belongs to."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.db.models import Model

from importops.models import Message, User


def references_to_users() -> Iterator[tuple[type[Model], str]]:
    """Every table with a column that points to users, and the column; without the authors of messages,
    for which there is no index: those are looked for in one pass."""
    for relation in User._meta.get_fields(include_hidden=True):
        if not (relation.auto_created and (relation.one_to_many or relation.one_to_one)):
            continue
        model: Any = relation.related_model
        if model is not Message:
            yield model, relation.field.name  # type: ignore[union-attr]


def users_referred_to(model: type[Model], column: str, users: Collection[int]) -> set[int]:
    """Which of `users` that column of that table points to."""
    rows = model._default_manager.filter(**{f"{column}__in": users})
    return set(rows.values_list(f"{column}_id", flat=True).distinct())
