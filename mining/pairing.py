"""Bring the outcomes of two scans together, sample by sample, or say why that cannot be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mining.artefact import File, read_classes, read_outcomes
from mining.exceptions import ArtefactError, MiningError

Ints: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

UNREADABLE: Final = -1
MAX_BITS: Final = 15  # pieces of a hash shorter than 4 bits tell nothing apart
_SHOWN: Final = 5
_AT_ONCE: Final = 1 << 22  # pairs of hashes held in memory


@dataclass(frozen=True, slots=True, eq=False)
class ScanColumns:
    """What a comparison needs of a scan's N outcomes.

    Attributes:
        classes: Class names in index order.
        id: int64 (N,), identity of each sample.
        key: string (N,), each once.
        digest: string (N,), SHA-256 of the image.
        true: int64 (N,), index of the true label.
        predicted: int64 (N,), index of the predicted class, -1 where unreadable.
        phash: int64 (N,), null where there is none.
    """

    classes: tuple[str, ...]
    id: Ints
    key: pa.Array
    digest: pa.Array
    true: Ints
    predicted: Ints
    phash: pa.Array


@dataclass(frozen=True, slots=True)
class Difference:
    """Samples that cannot be compared, for one reason.

    Attributes:
        count: How many.
        keys: The first few of them.
    """

    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Differences:
    """Samples that cannot be compared, by reason.

    Attributes:
        only_in_baseline: The candidate's scan does not have them.
        only_in_candidate: The baseline's scan does not have them.
        other_label: The two scans have different true labels.
        other_image: The digests of the images differ.
    """

    only_in_baseline: Difference
    only_in_candidate: Difference
    other_label: Difference
    other_image: Difference

    @property
    def count(self) -> int:
        """Return how many samples there are, each counted once."""
        return sum(getattr(self, field.name).count for field in fields(self))


class ScansDiffer(MiningError):  # noqa: N818 (as the other refusals)
    """Two scans are not of the same samples with the same labels; nothing was compared.

    Attributes:
        differences: Which samples differ, by reason.
    """

    def __init__(self, differences: Differences) -> None:
        self.differences = differences
        lines = ["The two scans are not of the same samples with the same labels:"]
        for name in (field.name for field in fields(differences)):
            difference: Difference = getattr(differences, name)
            if difference.count:
                keys = ", ".join(difference.keys)
                more = difference.count - len(difference.keys)
                tail = f" and {more:,} more" if more else ""
                words = name.replace("_", " ")
                lines.append(f"  {words}: {difference.count:,} ({keys}{tail})")
        lines.append(
            "Nothing was compared. Scan the same samples with both models, or compare only"
            " what the two scans have in common."
        )
        super().__init__("\n".join(lines))


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """N samples that two scans have both seen, with the same label and image.

    Attributes:
        classes: Names of the baseline's classes, then of those that only the candidate or
            the given labels have.
        id: int64 (N,), the baseline's identity of each sample, in the baseline's order.
        digest: string (N,).
        phash: int64 (N,), null where there is none.
        true: int64 (N,), index of the label that both are scored with.
        baseline: int64 (N,), index of the class that the baseline predicts.
        candidate: int64 (N,), likewise.
        left_out: The samples that differ; only with `intersection` there may be some.
        unreadable: Samples that one of the two could not read, left out as well.
        relabelled: Samples among the N that a given label says otherwise about.
    """

    classes: tuple[str, ...]
    id: Ints
    digest: pa.Array
    phash: pa.Array
    true: Ints
    baseline: Ints
    candidate: Ints
    left_out: Differences
    unreadable: int
    relabelled: int


def read_columns(file: File) -> ScanColumns:
    """Read what a comparison needs of a scan's artefact.

    Raises:
        ArtefactError: The file is missing or damaged, or does not name its classes.
    """
    classes = read_classes(file)
    if not classes:
        name = getattr(file, "name", file)
        raise ArtefactError(f"{name} does not name its classes. Run the scan again.")
    names = ["id", "key", "digest", "true", "predicted", "phash"]
    table = read_outcomes(file, names).combine_chunks()
    return ScanColumns(
        classes=classes,
        id=table["id"].to_numpy(),
        key=_whole(table["key"]),
        digest=_whole(table["digest"]),
        true=table["true"].to_numpy().astype(np.int64),
        predicted=pc.fill_null(table["predicted"], UNREADABLE)
        .to_numpy()
        .astype(np.int64),
        phash=_whole(table["phash"]),
    )


def pair(
    baseline: ScanColumns,
    candidate: ScanColumns,
    *,
    labels: Mapping[int, str] | None = None,
    intersection: bool = False,
) -> Pairs:
    """Bring two scans together by the samples' keys.

    Both sides are always scored with the same labels: those that both scans have, or, for
    the samples in `labels`, the one given there.

    Args:
        baseline: Its ids, order and class indices are the result's.
        candidate: In any order; its classes are found by name.
        labels: The label to score a sample with, by the baseline's id: the corrected one,
            say, or the original one where a scan came after the correction.
        intersection: Leave out the samples that differ instead of refusing.

    Raises:
        ScansDiffer: A sample is missing in one, or has another label or image there.
        ValueError: A scan has a key twice.
    """
    names = dict.fromkeys((*baseline.classes, *candidate.classes))
    names |= dict.fromkeys((labels or {}).values())
    index = {name: position for position, name in enumerate(names)}
    of_candidate = np.array([index[name] for name in candidate.classes], np.int64)
    rows, others = _matched(baseline.key, candidate.key)
    given = _given(baseline.id[rows], labels or {}, index)
    scanned = baseline.true[rows]
    is_read = (baseline.predicted[rows] >= 0) & (candidate.predicted[others] >= 0)
    other_label = (given < 0) & (scanned != of_candidate[candidate.true[others]])
    # The digest of an image that could not be read is of no image.
    other_image = _differs(baseline, rows, candidate, others) & is_read & ~other_label
    left_out = Differences(
        _absent(baseline.key, rows),
        _absent(candidate.key, others),
        _difference(baseline.key, rows[other_label]),
        _difference(baseline.key, rows[other_image]),
    )
    if left_out.count and not intersection:
        raise ScansDiffer(left_out)
    same = ~(other_label | other_image)
    kept = same & is_read
    return Pairs(
        classes=tuple(names),
        id=baseline.id[rows[kept]],
        digest=_take(baseline.digest, rows[kept]),
        phash=_take(baseline.phash, rows[kept]),
        true=np.where(given < 0, scanned, given)[kept],
        baseline=baseline.predicted[rows[kept]],
        candidate=of_candidate[candidate.predicted[others[kept]]],
        left_out=left_out,
        unreadable=int((same & ~is_read).sum()),
        relabelled=int(((given >= 0) & (given != scanned))[kept].sum()),
    )


def leaked(
    pairs: Pairs,
    *,
    digests: Collection[str] = (),
    phashes: Collection[int] = (),
    bits: int = 4,
) -> Ints:
    """Return the ids of samples whose image somebody has reviewed or trained on.

    Args:
        pairs: The samples compared.
        digests: SHA-256 of the images that were reviewed or trained on, in hex.
        phashes: Their perceptual hashes, 64 bits as signed numbers.
        bits: How many bits of two hashes may differ, 0 to 15.

    Returns:
        int64, in the order of the pairs.

    Raises:
        ValueError: `bits` is out of its range.
    """
    if not 0 <= bits <= MAX_BITS:
        raise ValueError(f"bits must be from 0 to {MAX_BITS}, not {bits}")
    known = pa.array(list(digests), pa.string())
    found = pc.is_in(pairs.digest, value_set=known).to_numpy(zero_copy_only=False)
    has_hash = pairs.phash.is_valid().to_numpy(zero_copy_only=False)
    if phashes and has_hash.any():
        hashes = pairs.phash.drop_null().to_numpy().view(np.uint64)
        marked = np.unique(np.fromiter(phashes, np.int64).view(np.uint64))
        found[has_hash] |= _near(hashes, marked, bits)
    ids: Ints = pairs.id[found]
    return ids


def _whole(column: pa.ChunkedArray) -> pa.Array:
    chunks = column.combine_chunks()
    return chunks if isinstance(chunks, pa.Array) else pa.concat_arrays(chunks.chunks)


def _matched(ours: pa.Array, theirs: pa.Array) -> tuple[Ints, Ints]:
    """Return the rows of the keys in both, in our order: ours and theirs, each (M,)."""
    if ours.equals(theirs):
        rows = np.arange(len(ours))
        return rows, rows
    found = pc.fill_null(pc.index_in(ours, value_set=theirs), -1).to_numpy()
    rows = np.flatnonzero(found >= 0)
    others = found[rows].astype(np.int64)
    # What a key's first row in theirs has not taken must be a key of theirs alone.
    rest = theirs.take(_lacking(len(theirs), others))
    is_twice = np.bincount(others).max(initial=0) > 1
    if is_twice or pc.any(pc.is_in(ours, value_set=rest)).as_py():
        raise ValueError("a scan has the same key twice")
    return rows, others


def _given(ids: Ints, labels: Mapping[int, str], index: Mapping[str, int]) -> Ints:
    """Return the class given to each id, -1 where none is."""
    known = np.array(sorted(labels), np.int64)
    classes = np.array([index[labels[int(name)]] for name in known], np.int64)
    given = np.full(len(ids), -1, np.int64)
    if len(known):
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        is_known = known[places] == ids
        given[is_known] = classes[places[is_known]]
    return given


def _differs(
    baseline: ScanColumns, rows: Ints, candidate: ScanColumns, others: Ints
) -> Mask:
    """Return which images are not the same, (M,)."""
    ours, theirs = _take(baseline.digest, rows), _take(candidate.digest, others)
    if ours.equals(theirs):
        return np.zeros(len(rows), np.bool_)
    differs: Mask = pc.not_equal(ours, theirs).to_numpy(zero_copy_only=False)
    return differs


def _take(values: pa.Array, rows: Ints) -> pa.Array:
    # Copying a million digests takes longer than all the rest.
    is_all = np.array_equal(rows, np.arange(len(values)))
    return values if is_all else values.take(rows)


def _absent(keys: pa.Array, rows: Ints) -> Difference:
    return _difference(keys, _lacking(len(keys), rows))


def _lacking(n: int, rows: Ints) -> Ints:
    lacking = np.ones(n, np.bool_)
    lacking[rows] = False
    return np.flatnonzero(lacking)


def _difference(keys: pa.Array, rows: Ints) -> Difference:
    return Difference(len(rows), tuple(keys.take(rows[:_SHOWN]).to_pylist()))


def _near(
    hashes: npt.NDArray[np.uint64], marked: npt.NDArray[np.uint64], bits: int
) -> Mask:
    """Return which hashes are within `bits` bits of a marked one, (N,)."""
    # Of bits + 1 pieces at least one is the same in two hashes that differ in `bits` bits;
    # four at least, so that a table has room for every piece.
    found = np.zeros(len(hashes), np.bool_)
    for low, high in pairwise(np.linspace(0, 64, max(bits + 1, 4) + 1).astype(int)):
        left = np.flatnonzero(~found)
        wanted, pieces = (_piece(all_, low, high) for all_ in (hashes[left], marked))
        ordered = marked[np.argsort(pieces, kind="stable")]
        table = np.bincount(pieces, minlength=1 << int(high - low))
        counts, first = table[wanted], (np.cumsum(table) - table)[wanted]
        for start, stop in _portions(counts):
            many = counts[start:stop]
            rows = np.repeat(left[start:stop], many)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many)
            others = ordered[np.repeat(first[start:stop], many) + within]
            found[rows[np.bitwise_count(hashes[rows] ^ others) <= bits]] = True
    return found


def _piece(hashes: npt.NDArray[np.uint64], low: int, high: int) -> Ints:
    """Return the bits from `low` up to `high`, (N,)."""
    mask = np.uint64((1 << int(high - low)) - 1)
    return (hashes >> np.uint64(low) & mask).astype(np.int64)


def _portions(counts: Ints) -> Iterator[tuple[int, int]]:
    """Yield slices of at most `_AT_ONCE` counted pairs, or of one row with more."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = total[start - 1] if start else 0
        stop = int(np.searchsorted(total, before + _AT_ONCE, "right"))
        yield start, max(stop, start + 1)
        start = max(stop, start + 1)
