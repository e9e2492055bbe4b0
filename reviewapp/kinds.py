"""Which scans can be put side by side: over the same split, judged in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Max, Q

from reviewapp.models import Scan
from reviewapp.models.scans import ScanQuerySet


@dataclass(frozen=True, slots=True)
class ScanKind:
    """What two scans share when their errors can be compared as they are.

    Attributes:
        split: "" for every split.
        is_out_of_fold: Whether no judge had seen the images: on what it was trained on
            the same architecture makes fewer errors.
    """

    split: str
    is_out_of_fold: bool = False

    def __str__(self) -> str:
        judged = ", out-of-fold" if self.is_out_of_fold else ""
        return f"{self.split or 'every split'}{judged}"

    @property
    def key(self) -> str:
        """Return its name in addresses."""
        return str(self).replace(", ", "-").replace(" ", "-")

    def among(self, scans: ScanQuerySet) -> ScanQuerySet:
        """Return the scans of this kind."""
        judged = Q(folds__gt=0) if self.is_out_of_fold else Q(folds=0)
        return scans.filter(judged, split=self.split)


@dataclass(frozen=True, slots=True)
class LastScan:
    """The last scan of a registered model and of a kind; ids."""

    scan: int
    model: int
    kind: ScanKind


def kind_of(scan: Scan) -> ScanKind:
    """Return the kind of a scan."""
    return ScanKind(scan.split, bool(scan.folds))


def last_scans(scans: ScanQuerySet) -> list[LastScan]:
    """Return the last one of each model and kind, the latest first."""
    named = scans.order_by().values_list("model_version__registered_model", "split")
    rows = named.annotate(judged=Q(folds__gt=0), last=Max("id")).order_by("-last")
    return [
        LastScan(scan, model, ScanKind(split, is_out_of_fold))
        for model, split, is_out_of_fold, scan in rows
    ]


@dataclass(frozen=True, slots=True)
class Kinds:
    """The kinds that there are, that of the last scan first, and the one to show."""

    there: tuple[ScanKind, ...]
    chosen: ScanKind | None  # None: there is no scan

    def __str__(self) -> str:
        return str(self.chosen or "no scan")

    @property
    def kept(self) -> str:
        """Return what links end in to keep the choice; "" where there is none."""
        return f"?over={self.chosen.key}" if self.chosen and len(self.there) > 1 else ""


def choose_kind(last: Iterable[LastScan], asked: str) -> Kinds:
    """Return the kinds of these scans and the one with this key, else the first."""
    there = tuple(dict.fromkeys(one.kind for one in last))
    usual = there[0] if there else None
    return Kinds(there, next((kind for kind in there if kind.key == asked), usual))
