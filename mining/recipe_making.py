"""Make the recipe of a fix set: what to weigh, repeat, drop, augment and collect."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
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
# Held aside, and said to trainers: a label error always looks hard.
_UNTOLD: Final = {"label_suspect": "label in doubt", "outlier": "outlier"}
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
    split: str = "train"


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
    held: Iterable[tuple[FixRow, str]] = (),
    doubted: Mapping[str, str] = MappingProxyType({}),
    sources: Sources | None = None,
    settings: RecipeSettings | None = None,
) -> Recipe:
    """Return the recipe of a fix set; the same input in any order gives the same one.

    Args:
        rows: The fix set.
        class_counts: Class -> samples of the train split, 1 or more, corrections applied.
            What the recipe takes from other splits is added, and a class that has none is
            counted from the recipe itself.
        easy: Samples to choose the easy ones from, each once; read lazily. Those of the
            fix set are passed over.
        held: (row, reason) of what was held aside, a `mining.guards.Reason`: the ambiguous
            are left out of training, and of doubtful labels and outliers no trainer shall
            mine the loss.
        doubted: Key -> why the loss of a sample says nothing about the model. What the fix
            set says of a sample counts more; the others are never taken as easy ones.
        sources: The fix set's digest is filled in where it is not known.
        settings: How to make it.

    Raises:
        ValueError: A count is below 1.
    """
    settings, sources = settings or RecipeSettings(), sources or Sources()
    given, aside = list(rows), list(held)
    dropped = [row for row, reason in aside if reason == "ambiguous"]
    cases = _cases([*given, *dropped])
    found = [case for case in cases if case.role == "hard"]
    hard, warnings = _capped(found, settings)
    wanted = round(settings.easy_per_hard * len(hard))
    taken = {case.row.sample_key for case in cases} | doubted.keys()
    mixed = _choose_easy(easy, taken, wanted, settings)
    if len(mixed) < wanted:
        warnings.append(f"Easy samples found: {len(mixed):,} of {wanted:,} wanted.")
    warnings += _test_warning(given)
    rest = [case for case in cases if case.role != "hard"]
    samples = [_sample(case, settings) for case in hard + rest]
    samples += [
        RecipeSample(one.key, one.digest, one.label, one.label, "easy") for one in mixed
    ]
    counts = _counted(class_counts, hard + rest, mixed)
    if not sources.fix_set:
        sources = replace(sources, fix_set=fix_set_digest(given))
    return Recipe(
        samples=tuple(sorted(samples, key=lambda sample: sample.key)),
        class_weights=class_balanced_weights(counts, beta=settings.beta),
        ignore=_ignored(cases, aside, doubted),
        collection=_plan(found, settings),
        warnings=tuple(warnings),
        sources=sources,
        settings=settings,
    )


def random_recipe(
    recipe: Recipe, candidates: Iterable[EasySample], *, seed: int
) -> Recipe:
    """Return the recipe's control: as large, but its samples are drawn at random.

    Each line keeps its role, weight, repeats and hints and gets another sample of the same
    split, with the label that the sample has, so that nothing but the choice differs. The
    same candidates in any order give the same one.

    Args:
        recipe: What is to be controlled.
        candidates: Every sample of the splits that the recipe takes from, its own included.
        seed: Decides the draw.

    Raises:
        ValueError: A sample of the recipe is not among the candidates.
    """
    pool = sorted(candidates, key=lambda one: _lot(seed, one.key))
    splits = {one.key: one.split for one in pool}
    missing = [line.key for line in recipe.samples if line.key not in splits]
    if missing:
        raise ValueError(
            f"{len(missing):,} samples of the recipe are not among the candidates, such"
            f" as {missing[0]}"
        )
    drawn: dict[str, Iterator[EasySample]] = {
        split: iter([one for one in pool if one.split == split])
        for split in set(splits.values())
    }
    lines = []
    for line in recipe.samples:
        one = next(drawn[splits[line.key]])
        lines.append(
            replace(
                line,
                key=one.key,
                digest=one.digest,
                label=one.label,
                old_label=one.label,
            )
        )
    return replace(
        recipe,
        samples=tuple(sorted(lines, key=lambda line: line.key)),
        ignore={},
        collection=(),
        warnings=(),
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


def _counted(
    class_counts: Mapping[str, int], cases: Sequence[_Case], easy: Sequence[EasySample]
) -> dict[str, int]:
    """Return class -> samples to train on: the train split and what is taken elsewhere."""
    used = [
        (case.row.label, case.row.split) for case in cases if case.role != "drop"
    ] + [(one.label, one.split) for one in easy]
    counts = Counter(class_counts)
    counts.update(
        label for label, split in used if split != "train" or label not in class_counts
    )
    return dict(counts)


def _ignored(
    cases: Sequence[_Case],
    held: Sequence[tuple[FixRow, str]],
    doubted: Mapping[str, str],
) -> dict[str, str]:
    """Return key -> why the loss of a sample says nothing about the model."""
    aside = {
        row.sample_key: _UNTOLD[reason] for row, reason in held if reason in _UNTOLD
    }
    known = {case.row.sample_key: case.reason for case in cases}
    said = {**doubted, **aside, **known}
    return {key: reason for key, reason in said.items() if reason}


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
            over[_taken_for(label, predicted)] += 1
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


def _taken_for(label: str, predicted: str) -> str:
    """Return a confusion in words; of a near miss, which is right, there is none."""
    return (
        f"{label}, near misses"
        if label == predicted
        else f"{label} taken for {predicted}"
    )


def _most_taken_for(label: str, found: Sequence[_Case]) -> str:
    """Return the most frequent wrong prediction, or the label when there is none."""
    wrong = (case.row.predicted for case in found if case.row.predicted != label)
    return next((name for name, _ in Counter(wrong).most_common(1)), label)


def _choose_easy(
    easy: Iterable[EasySample], taken: set[str], wanted: int, settings: RecipeSettings
) -> list[EasySample]:
    """Return a random choice that depends on the seed and the keys alone."""
    free = (sample for sample in easy if sample.key not in taken)
    return heapq.nsmallest(
        wanted, free, key=lambda sample: _lot(settings.seed, sample.key)
    )


def _lot(seed: int, key: str) -> tuple[bytes, str]:
    """Return the place of a key in a random order that depends on the seed alone."""
    return hashlib.sha256(f"{seed}\0{key}".encode()).digest(), key


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
            predicted=_most_taken_for(label, found),
            count=settings.collect_per_hard * len(found),
            like=tuple(case.row.sample_key for case in found[: settings.examples]),
        )
        for label, found in by_label.items()
        if settings.collect_per_hard
    ]
    return tuple(sorted(plan, key=lambda line: (-line.count, line.label)))
