"""What the check of a file of predictions found, as people and machines read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from mining.predictions.blocks import ClassOrder, Fault, FaultKind
from mining.text import storable

LISTED: Final = 100
_SHOWN: Final = 300  # characters of a key or reason


@dataclass(slots=True)
class Report:
    """Bad rows of a file by kind, and the first of each.

    Attributes:
        rows: Rows of the file.
        order: Where the order of the classes comes from; None: there was no row.
        top_k: Whether the rows name their most probable classes alone.
        bounded: Used rows whose true label is not among their top-k.
        counts: Kind of fault -> how many rows (or, of "no prediction", samples).
        listed: Kind of fault -> the first rows: (row or None, key, reason).
    """

    rows: int = 0
    order: ClassOrder | None = None
    top_k: bool = False
    bounded: int = 0
    counts: dict[FaultKind, int] = field(default_factory=dict)
    listed: dict[FaultKind, list[tuple[int | None, str, str]]] = field(
        default_factory=dict
    )

    @property
    def bad_rows(self) -> int:
        """Return how many rows cannot be used; samples without a row not counted."""
        return sum(n for kind, n in self.counts.items() if kind != "no prediction")

    @property
    def is_clean(self) -> bool:
        """Whether every row can be used and every sample has one."""
        return not any(self.counts.values())

    def add(self, fault: Fault, *, row: int | None, key: str) -> None:
        """Count a fault, and list it while there is room."""
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        self.note(fault, row=row, key=key)

    def add_many(self, kind: FaultKind, count: int) -> None:
        """Count faults whose first ones are listed apart."""
        if count:
            self.counts[kind] = self.counts.get(kind, 0) + count

    def note(self, fault: Fault, *, row: int | None, key: str) -> None:
        """List a fault that is counted apart, while there is room."""
        there = self.listed.setdefault(fault.kind, [])
        if len(there) < LISTED:
            there.append((row, _short(key), _short(fault.reason)))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-like data."""
        return {
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "order": self.order,
            "top_k": self.top_k,
            "bounded": self.bounded,
            "counts": dict(self.counts),
            "listed": {
                kind: [_entry(*entry) for entry in entries]
                for kind, entries in self.listed.items()
            },
        }

    def sentences(self) -> Iterable[str]:
        """Yield what is wrong in plain words, the most frequent kind first."""
        for kind, n in sorted(self.counts.items(), key=lambda pair: -pair[1]):
            noun = "row" if n == 1 else "rows"
            if kind == "no prediction":
                noun = "sample" if n == 1 else "samples"
            yield f"{n:,} {noun}: {kind}"


def _entry(row: int | None, key: str, reason: str) -> dict[str, Any]:
    return {"row": row, "key": key, "reason": reason}


def _short(text: str) -> str:
    return storable(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
