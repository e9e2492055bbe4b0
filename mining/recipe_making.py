"""Make the recipe of a fix set: what to weigh, repeat, drop, augment and collect."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mining.fixset import FixRow, fix_set_digest
from mining.recipe import (
    Collection,
    Hint,
    Recipe,
    RecipeSample,
    RecipeSettings,
    Role,
    Sources,
)

HINTS: Final[Mapping[str, tuple[Hint, ...]]] = {
    "occlusion": ("erase",),
    "pose": ("rotate", "perspective"),
    "background": ("crop", "mix"),
    "small_object": ("crop",),
    "blur": ("blur",),
    "lighting": ("light",),
}
# Nobody can learn a right answer from these.
_DROPPED: Final = ("ambiguous", "out_of_scope")
_LABEL_WRONG: Final = "label_wrong"
_DISAGREEING: Final = "reviews disagree"
# What only other images can teach; blur, lighting and background can be made from these.
_COLLECTED: Final = frozenset(
    {"similar_appearance", "pose", "occlusion", "small_object"}
)


@dataclass(frozen=True, slots=True)
class EasySample:
    """A sample that the model gets right, to be mixed in."""

    key: str
    digest: str
    label: str


@dataclass(frozen=True, slots=True)
class _Case:
    """One sample as all its rows say.

    Attributes:
        row: The hardest of its rows.
        causes: Of all its rows.
        role: What becomes of it.
        reason: Why it is ignored; "" when it is not.
    """

    row: FixRow
    causes: frozenset[str]
    role: Role
    reason: str

    @property
    def hardness(self) -> tuple[float, str]:
        """Sort the hardest first, the same way every time."""
        return self.row.p_true, self.row.sample_key


def make_recipe(
    rows: Iterable[FixRow],
    class_counts: Mapping[str, int],
    *,
    easy: Iterable[EasySample] = (),
    sources: Sources | None = None,
    settings: RecipeSettings | None = None,
) -> Recipe:
    """Return the recipe of a fix set; the same input in any order gives the same one.

    Args:
        rows: The fix set.
        class_counts: Class -> samples to train on, 1 or more, corrections applied.
        easy: Samples to choose the easy ones from, each once; read lazily. Those of the
            fix set are passed over.
        sources: The fix set's digest is filled in.
        settings: How to make it.

    Raises:
        ValueError: A count is below 1, or a label of the rows has none.
    """
    settings = settings or RecipeSettings()
    given = list(rows)
    cases = _cases(given)
    trained = [case for case in cases if case.role != "drop"]
    _check_labels(trained, class_counts)
    found = [case for case in cases if case.role == "hard"]
    hard, warnings = _capped(found, settings)
    wanted = round(settings.easy_per_hard * len(hard))
    mixed = _choose_easy(
        easy, {case.row.sample_key for case in cases}, wanted, settings
    )
    if len(mixed) < wanted:
        warnings.append(f"Easy samples found: {len(mixed):,} of {wanted:,} wanted.")
    warnings += _test_warning(given)
    rest = [case for case in cases if case.role != "hard"]
    samples = [_sample(case, settings) for case in hard + rest] + mixed
    return Recipe(
        samples=tuple(sorted(samples, key=lambda sample: sample.key)),
        class_weights=class_balanced_weights(class_counts, beta=settings.beta),
        ignore={case.row.sample_key: case.reason for case in cases if case.reason},
        collection=_plan(found, settings),
        warnings=tuple(warnings),
        sources=replace(sources or Sources(), fix_set=fix_set_digest(given)),
        settings=settings,
    )


def class_balanced_weights(
    counts: Mapping[str, int], *, beta: float
) -> dict[str, float]:
    """Return each class's weight in the loss by its effective number of samples.

    A class of n samples gets 1 / E with E = (1 - beta^n) / (1 - beta), then all are scaled
    to 1 on average (Cui et al., "Class-Balanced Loss Based on Effective Number of Samples",
    CVPR 2019).

    >>> class_balanced_weights({"cat": 1, "dog": 2}, beta=0.5)
    {'cat': 1.2, 'dog': 0.8}

    Raises:
        ValueError: A count is below 1.
    """
    for name, count in counts.items():
        if count < 1:
            raise ValueError(
                f"{name} has {count} samples to train on; leave such classes out"
            )
    # Not 1 - beta**n: this keeps all digits when beta is near 1.
    inverse = {
        name: (1 - beta) / -math.expm1(count * math.log(beta)) if beta else 1.0
        for name, count in sorted(counts.items())
    }
    mean = sum(inverse.values()) / max(len(inverse), 1)
    return {name: _rounded(value / mean) for name, value in inverse.items()}


def emphasis(p_true: float, *, gamma: float, max_emphasis: float) -> float:
    """Return how often a hard sample counts, 1 to `max_emphasis`; harder is more.

    1 + (max_emphasis - 1) * (1 - p_true)^gamma: the modulating factor of the focal loss
    (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017), with a cap, so that no
    single sample can dominate.

    >>> emphasis(0.0, gamma=2.0, max_emphasis=3.0), emphasis(0.5, gamma=2.0, max_emphasis=3.0)
    (3.0, 1.5)
    """
    return float(1 + (max_emphasis - 1) * (1 - p_true) ** gamma)


def _rounded(value: float) -> float:
    """Return 12 digits: the last ones depend on the machine's mathematics library."""
    return float(f"{value:.12g}")


def _cases(rows: Sequence[FixRow]) -> list[_Case]:
    """Return one case per sample: two models may have found the same one."""
    groups: dict[str, list[FixRow]] = defaultdict(list)
    for row in rows:
        groups[row.sample_key].append(row)
    return [_case(group) for _, group in sorted(groups.items())]


def _case(rows: list[FixRow]) -> _Case:
    row = min(rows, key=lambda row: (row.p_true, row.predicted, row.true_label))
    causes = frozenset(cause for row in rows for cause in row.causes)
    said = {row.label for row in rows}
    corrected = any(row.verdict == "relabel" for row in rows)
    if len(said) > 1:
        return _Case(row, causes, "drop", _DISAGREEING)
    for cause in _DROPPED:
        if cause in causes:
            return _Case(row, causes, "drop", cause)
    if corrected:
        return _Case(row, causes, "corrected", _LABEL_WRONG)
    if _LABEL_WRONG in causes:  # wrong, says the cause, and nobody said what is right
        return _Case(row, causes, "drop", _LABEL_WRONG)
    return _Case(row, causes, "hard", "")


def _check_labels(cases: Sequence[_Case], class_counts: Mapping[str, int]) -> None:
    missing = sorted({case.row.label for case in cases} - class_counts.keys())
    if missing:
        raise ValueError(f"class_counts lacks {', '.join(missing)}")


def _capped(
    cases: Sequence[_Case], settings: RecipeSettings
) -> tuple[list[_Case], list[str]]:
    """Return the hardest cases within both caps, and what was left out in words."""
    by_confusion: Counter[tuple[str, str]] = Counter()
    by_class: Counter[str] = Counter()
    over: Counter[str] = Counter()
    kept: list[_Case] = []
    for case in sorted(cases, key=lambda case: case.hardness):
        label, predicted = case.row.label, case.row.predicted
        if by_confusion[label, predicted] >= settings.per_confusion:
            over[f"{label} taken for {predicted}"] += 1
        elif by_class[label] >= settings.per_class:
            over[label] += 1
        else:
            by_confusion[label, predicted] += 1
            by_class[label] += 1
            kept.append(case)
    return kept, [
        f"{name}: hard samples over the cap: {count:,}. The easiest ones were left out."
        for name, count in sorted(over.items())
    ]


def _choose_easy(
    easy: Iterable[EasySample], taken: set[str], wanted: int, settings: RecipeSettings
) -> list[RecipeSample]:
    """Return a random choice that depends on the seed and the keys alone."""

    def lot(sample: EasySample) -> tuple[bytes, str]:
        text = f"{settings.seed}\0{sample.key}"
        return hashlib.sha256(text.encode()).digest(), sample.key

    free = (sample for sample in easy if sample.key not in taken)
    return [
        RecipeSample(sample.key, sample.digest, sample.label, sample.label, "easy")
        for sample in heapq.nsmallest(wanted, free, key=lot)
    ]


def _test_warning(rows: Sequence[FixRow]) -> list[str]:
    count = len({row.sample_key for row in rows if row.split == "test"})
    if not count:
        return []
    said = f"Samples of the test split: {count:,}."
    return [f"{said} After training with them, accuracy on it means nothing."]


def _sample(case: _Case, settings: RecipeSettings) -> RecipeSample:
    """Return the line of a sample; copies are whole, the weight makes up for it."""
    row, times = case.row, 1.0
    if case.role == "hard":
        times = emphasis(
            row.p_true, gamma=settings.gamma, max_emphasis=settings.max_emphasis
        )
    repeat = max(1, round(times))
    hints = {hint for cause in case.causes for hint in HINTS.get(cause, ())}
    return RecipeSample(
        key=row.sample_key,
        digest=row.digest,
        label=row.label,
        old_label=row.original_label,
        role=case.role,
        weight=_rounded(times / repeat),
        repeat=repeat,
        hints=() if case.role == "drop" else tuple(sorted(hints)),
    )


def _plan(cases: Sequence[_Case], settings: RecipeSettings) -> tuple[Collection, ...]:
    """Return what to collect, for each class whose errors other images would mend."""
    by_label: dict[str, list[_Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: case.hardness):
        if not case.causes or case.causes & _COLLECTED:
            by_label[case.row.label].append(case)
    plan = [
        Collection(
            label=label,
            predicted=Counter(case.row.predicted for case in found).most_common(1)[0][
                0
            ],
            count=settings.collect_per_hard * len(found),
            like=tuple(case.row.sample_key for case in found[: settings.examples]),
        )
        for label, found in by_label.items()
        if settings.collect_per_hard
    ]
    return tuple(sorted(plan, key=lambda line: (-line.count, line.label)))
