"""Keyset paging: page 1,000 costs what page 1 costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core import signing
from django.db.models import F, Func, Model, QuerySet, Value
from django.db.models.fields import BooleanField

from reviewapp.exceptions import Refused

ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[ModelT]):
    """One page of rows and the token of the next, None at the end."""

    rows: list[ModelT]
    next: str | None


class _RowBefore(Func):
    """(a, b) < (x, y) on rows, which PostgreSQL answers from one index."""

    output_field = BooleanField()

    def as_sql(  # type: ignore[override]  # takes no template
        self, compiler: Any, connection: Any
    ) -> tuple[str, list[Any]]:
        parts = [compiler.compile(e) for e in self.get_source_expressions()]
        half = len(parts) // 2
        left = ", ".join(sql for sql, _ in parts[:half])
        right = ", ".join(sql for sql, _ in parts[half:])
        params = [p for _, values in parts for p in values]
        return f"({left}) < ({right})", params


def keyset_page(
    rows: QuerySet[ModelT], *, by: Sequence[str], after: str | None, size: int
) -> Page[ModelT]:
    """Return the page that follows a token.

    Args:
        rows: The filtered rows; their order is replaced.
        by: Fields in descending order, the last one unique, e.g. ("priority", "id").
        after: The `next` of the page before, or None for the first.
        size: Rows to a page.

    Raises:
        Refused: The token was not made here for this order.
    """
    ordered = rows.order_by(*(f"-{field}" for field in by))
    if after:
        values = _read_token(after, by)
        columns = [F(field) for field in by]
        bounds = [Value(value) for value in values]
        ordered = ordered.filter(_RowBefore(*columns, *bounds))
    found = list(ordered[: size + 1])
    more = len(found) > size
    token = _token(found[size - 1], by) if more else None
    return Page(rows=found[:size], next=token)


def _token(row: Model, by: Sequence[str]) -> str:
    return signing.dumps([list(by), [getattr(row, field) for field in by]], salt="page")


def _read_token(token: str, by: Sequence[str]) -> list[Any]:
    try:
        fields, values = signing.loads(token, salt="page")
    except (signing.BadSignature, ValueError, json.JSONDecodeError):
        fields, values = None, []
    if fields != list(by):
        raise Refused(
            "This page link is not valid any more. Start from the first page."
        )
    return list(values)
