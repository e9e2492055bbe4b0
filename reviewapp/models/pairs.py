"""Confusions by their labels: many pairs in one condition."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import BigIntegerField, BooleanField, F, Func, Value


class PairIn(Func):
    """Whether (true label, predicted label) of a row is one of these pairs of ids.

    Two arrays, so that an index is looked up once for each pair: the two labels apart
    would let in every pair of a thousand classes.
    """

    output_field = BooleanField()

    def __init__(self, pairs: Collection[tuple[int, int]]) -> None:
        ids = ArrayField(BigIntegerField())
        super().__init__(
            F("true_label"),
            F("predicted_label"),
            Value([true for true, _ in pairs], ids),
            Value([predicted for _, predicted in pairs], ids),
        )

    def as_sql(  # type: ignore[override]  # takes no template
        self, compiler: Any, connection: Any
    ) -> tuple[str, list[Any]]:
        """Return the condition as SQL."""
        parts = [compiler.compile(e) for e in self.get_source_expressions()]
        true, predicted, trues, predicteds = (sql for sql, _ in parts)
        # Compiled columns and placeholders, nothing of a client's.
        rows = f"SELECT * FROM unnest({trues}::bigint[], {predicteds}::bigint[])"  # noqa: S608
        params = [p for _, values in parts for p in values]
        return f"({true}, {predicted}) IN ({rows})", params
