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


class RowBefore(Func):
    """(a, b) < (x, y) on rows, which PostgreSQL answers from one index."""

    output_field = BooleanField()

    def as_sql(  # type: ignore[override]  # takes no template
        self, compiler: Any, connection: Any
    ) -> tuple[str, list[Any]]:
        """Return the comparison as SQL."""
        parts = [compiler.compile(e) for e in self.get_source_expressions()]
        half = len(parts) // 2
        left = ", ".join(sql for sql, _ in parts[:half])
        right = ", ".join(sql for sql, _ in parts[half:])
        params = [p for _, values in parts for p in values]
        return f"({left}) < ({right})", params


def keyset_page(
    rows: QuerySet[ModelT],
    *,
    by: Sequence[str],
    after: str | None,
    size: int,
    parts: Sequence[QuerySet[ModelT]] = (),
) -> Page[ModelT]:
    """Return the page that follows a token.

    Args:
        rows: The filtered rows; their order is replaced.
        by: Fields in descending order, the last one unique, e.g. ("priority", "id").
        after: The `next` of the page before, or None for the first.
        size: Rows to a page.
        parts: The same rows in disjoint sets, where no single index gives them in
            order; the page is merged from them.

    Raises:
        Refused: The token was not made here for this order.
    """
    following = keyset_rows(rows, by=by, after=after)
    if parts:
        merged = merged_rows(parts, by=by, after=after, size=size + 1)
        ids = [row[-1] for row in merged]
        following = rows.filter(**{f"{by[-1]}__in": ids}).order_by(*_descending(by))
    found = list(following[: size + 1])
    more = len(found) > size
    token = keyset_token(found[size - 1], by=by) if more else None
    return Page(rows=found[:size], next=token)


def keyset_rows(
    rows: QuerySet[ModelT], *, by: Sequence[str], after: str | None
) -> QuerySet[ModelT]:
    """Return all rows that follow a token, in order; see `keyset_page`."""
    ordered = rows.order_by(*_descending(by))
    if not after:
        return ordered
    values = _read_token(after, by)
    columns = [F(field) for field in by]
    bounds = [Value(value) for value in values]
    return ordered.filter(RowBefore(*columns, *bounds))


def merged_rows(
    parts: Sequence[QuerySet[ModelT]],
    *,
    by: Sequence[str],
    after: str | None,
    size: int,
) -> QuerySet[ModelT, tuple[Any, ...]]:
    """Return the fields `by` of the first rows of disjoint sets that follow a token."""
    first, *others = (
        keyset_rows(part, by=by, after=after).values_list(*by)[:size] for part in parts
    )
    if not others:
        return first
    return first.union(*others, all=True).order_by(*_descending(by))[:size]


def _descending(by: Sequence[str]) -> list[str]:
    return [f"-{field}" for field in by]


def keyset_token(row: Model, *, by: Sequence[str]) -> str:
    """Return the token of the page that follows a row."""
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
