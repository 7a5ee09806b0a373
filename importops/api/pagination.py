"""Pages in the manner of the wire: `offset` and `count` in; the same and `total` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from importops.api.validation import Field

Row = TypeVar("Row", bound=Model)

PAGE = 50
PAGE_LIMIT = 100
PAGE_FIELDS = {
    "offset": Field("number", minimum=0),
    "count": Field("number", minimum=0),
}
# Larger than any table; a database refuses what does not fit its integers.
_LAST_OFFSET = 2**31


def page(
    rows: QuerySet[Row],
    query: Mapping[str, Any],
    name: str,
    render: Callable[[Row], dict[str, Any]],
) -> dict[str, Any]:
    """The part of `rows` that `query` asks for, under `name`.

    More than `PAGE_LIMIT` rows are never given; a `count` of 0 or none at all means `PAGE`.
    """
    offset = min(int(query.get("offset", 0)), _LAST_OFFSET)
    count = min(int(query.get("count", 0)) or PAGE, PAGE_LIMIT)
    body = [render(row) for row in rows[offset : offset + count]]
    return {name: body, "count": len(body), "offset": offset, "total": rows.count()}
