"""Decide which reviewed errors are held aside from a fix set, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

Reason = Literal["ambiguous", "label_suspect", "outlier", "duplicate"]

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)
_AMBIGUOUS: Final = frozenset({"ambiguous", "out_of_scope"})
_EXPLAINED: Final = frozenset({"blur", "lighting"})  # causes of an unusual look


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reviewed error that may go into a fix set.

    Attributes:
        sample: Id of its sample.
        key: Key of the sample.
        digest: SHA-256 of the image in hex.
        label: The label to train with.
        verdict: "confirm" or "relabel".
        causes: Why the model failed.
        p_true: Probability given to the true label, 0-1; lower is harder.
        is_doubted: Whether the scan speaks against the label.
        is_seconded: Whether another person said the same.
        is_outlier: Whether it looks like nothing of its class.
    """

    sample: int
    key: str
    digest: str
    label: str
    verdict: str
    causes: tuple[str, ...]
    p_true: float
    is_doubted: bool = False
    is_seconded: bool = False
    is_outlier: bool = False


def hold_aside(
    candidates: Sequence[Candidate],
    alike: Mapping[int, Collection[int]],
    *,
    include: Collection[str] = (),
) -> dict[int, Reason]:
    """Return position -> the first reason that holds, of the candidates to hold aside.

    * ambiguous: a cause says ambiguous or out of scope.
    * label_suspect: a confirmed label that the scan doubts and nobody else confirmed, or
      that is named wrong; or one image under several keys with different answers.
    * outlier: it looks like nothing of its class, and no cause says why.
    * duplicate: the same or nearly the same image is among the candidates, corrected, or
      confirmed with a harder error.

    A sample is held as a whole. Corrections are no outliers and no duplicates: each wrong
    label is to be put right.

    Args:
        candidates: Of one data set; a sample may be there several times.
        alike: Sample id -> ids of nearly identical images.
        include: Reasons that hold nothing.
    """
    answers: dict[str, set[str]] = defaultdict(set)
    for one in candidates:
        answers[one.digest].add(one.label)
    reasons: dict[int, Reason] = {}
    for one in candidates:
        for reason in _reasons(one, is_contested=len(answers[one.digest]) > 1):
            if reason not in include:
                known = reasons.get(one.sample, reason)
                reasons[one.sample] = min(reason, known, key=REASONS.index)
                break
    if "duplicate" not in include:
        free = [one for one in candidates if one.sample not in reasons]
        reasons |= dict.fromkeys(_duplicates(free, alike), "duplicate")
    return {
        place: reasons[one.sample]
        for place, one in enumerate(candidates)
        if one.sample in reasons
    }


def _reasons(one: Candidate, *, is_contested: bool) -> Iterator[Reason]:
    """Yield what speaks against a candidate by itself, in the order of `REASONS`."""
    if not _AMBIGUOUS.isdisjoint(one.causes):
        yield "ambiguous"
    is_confirmed = one.verdict != "relabel"
    is_suspect = one.is_doubted and not one.is_seconded
    if is_contested or (is_confirmed and (is_suspect or "label_wrong" in one.causes)):
        yield "label_suspect"
    if is_confirmed and one.is_outlier and _EXPLAINED.isdisjoint(one.causes):
        yield "outlier"


def _duplicates(
    candidates: Iterable[Candidate], alike: Mapping[int, Collection[int]]
) -> set[int]:
    """Return the samples of which another candidate has the image already."""
    kept: set[int] = set()
    seen: set[str] = set()
    held: set[int] = set()
    for one in sorted(
        candidates, key=lambda one: (one.verdict != "relabel", one.p_true, one.key)
    ):
        if one.sample in kept or one.sample in held:
            continue
        is_known = one.digest in seen or not kept.isdisjoint(alike.get(one.sample, ()))
        if is_known and one.verdict != "relabel":
            held.add(one.sample)
        else:
            kept.add(one.sample)
            seen.add(one.digest)
    return held
