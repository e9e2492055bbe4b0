"""What each fix bought: the errors that went away, by confusion and by cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mining.pairing import Ints
from mining.statistics import PairedDifference, paired_difference

NO_CAUSE: Final = ""


@dataclass(frozen=True, slots=True)
class Fix:
    """What one finding of a fix set teaches.

    Attributes:
        label: What the image shows.
        mistaken_for: What the model took it for; of a wrong label, what the label said:
            a model that learns it takes `label` for that.
        causes: Why the model failed, as people said; may be empty.
    """

    label: str
    mistaken_for: str
    causes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What the models say of the same N samples.

    Attributes:
        classes: Names in index order.
        true: int64 (N,), index of the label.
        before: int64 (N,), index of the class that the parent predicts.
        after: int64 (N,), that of the retrained model.
        control: int64 (N,), that of the control; None: there is none.
    """

    classes: tuple[str, ...]
    true: Ints
    before: Ints
    after: Ints
    control: Ints | None = None


@dataclass(frozen=True, slots=True)
class ConfusionCredit:
    """What became of the errors of one confusion that was fixed.

    Attributes:
        label: What the samples are.
        mistaken_for: What they were taken for.
        findings: Fixes of it in the fix set.
        fixed: Confused so before, right now.
        broken: Right before, confused so now.
        difference: (fixed - broken) / N with its interval and exact test.
        control: What the control has for fixed - broken; None: there is none.
    """

    label: str
    mistaken_for: str
    findings: int
    fixed: int
    broken: int
    difference: PairedDifference
    control: int | None

    @property
    def bought(self) -> int:
        """Return how many errors fewer there are."""
        return self.fixed - self.broken


@dataclass(frozen=True, slots=True)
class CauseCredit:
    """The credit of the confusions, shared out among the causes that were named.

    Attributes:
        cause: Its name; "" is for fixes without one.
        findings: Fixes of it; one with two causes is half a fix of each.
        bought: Errors fewer.
        control: Of these, what the control has, too; None: there is none.
    """

    cause: str
    findings: float
    bought: float
    control: float | None


@dataclass(frozen=True, slots=True)
class Credit:
    """Who earned the gain: all of it is in `confusions` and `elsewhere`.

    Attributes:
        confusions: Those that were fixed, what bought most first.
        causes: The same by cause, what bought most first.
        elsewhere: Errors fewer in confusions that nobody fixed; negative: more.
        control_elsewhere: The control's; None: there is none.
    """

    confusions: tuple[ConfusionCredit, ...]
    causes: tuple[CauseCredit, ...]
    elsewhere: int
    control_elsewhere: int | None


def credit(fixes: Sequence[Fix], answers: Answers) -> Credit:
    """Share the gain of a retrained model out among what was fixed.

    A sample that became right counts for the confusion that it was in; one that became
    wrong, against the confusion that it is in now. So the parts add up to the gain. A
    cause gets of each confusion's what its share of that confusion's fixes is: an
    attribution, not an experiment.

    Args:
        fixes: What was trained with, in any order.
        answers: Of samples that nobody reviewed or trained on.

    >>> zeros = np.zeros(4, np.int64)
    >>> answers = Answers(("cat", "dog"), zeros, np.array([1, 1, 0, 0]), zeros)
    >>> found = credit([Fix("cat", "dog", ("pose",))], answers)
    >>> found.confusions[0].bought, found.causes[0].cause, found.elsewhere
    (2, 'pose', 0)
    """
    ours = _Moves.of(answers, answers.after)
    theirs = None if answers.control is None else _Moves.of(answers, answers.control)
    findings = Counter((fix.label, fix.mistaken_for) for fix in fixes)
    rows = [
        _row(pair, count, len(answers.true), ours, theirs)
        for pair, count in sorted(findings.items())
    ]
    claimed = sum(row.bought for row in rows)
    of_control = sum(row.control or 0 for row in rows)
    return Credit(
        confusions=tuple(sorted(rows, key=lambda row: -row.bought)),
        causes=_causes(fixes, rows),
        elsewhere=ours.total - claimed,
        control_elsewhere=None if theirs is None else theirs.total - of_control,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Moves:
    """Confusion -> samples that left it for right, and that came to it from right."""

    fixed: Counter[tuple[str, str]]
    broken: Counter[tuple[str, str]]

    @classmethod
    def of(cls, answers: Answers, after: Ints) -> _Moves:
        was, now = answers.before == answers.true, after == answers.true
        return cls(
            Counter(_pairs(answers, answers.before, ~was & now)),
            Counter(_pairs(answers, after, was & ~now)),
        )

    @property
    def total(self) -> int:
        return self.fixed.total() - self.broken.total()

    def bought(self, pair: tuple[str, str]) -> int:
        return self.fixed[pair] - self.broken[pair]


def _pairs(
    answers: Answers, predicted: Ints, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> Iterator[tuple[str, str]]:
    names = answers.classes
    for true, said in zip(answers.true[rows], predicted[rows], strict=True):
        yield names[true], names[said]


def _row(
    pair: tuple[str, str], count: int, n: int, ours: _Moves, theirs: _Moves | None
) -> ConfusionCredit:
    fixed, broken = ours.fixed[pair], ours.broken[pair]
    return ConfusionCredit(
        *pair,
        findings=count,
        fixed=fixed,
        broken=broken,
        difference=paired_difference(fixed, broken, n),
        control=None if theirs is None else theirs.bought(pair),
    )


def _causes(
    fixes: Sequence[Fix], rows: Sequence[ConfusionCredit]
) -> tuple[CauseCredit, ...]:
    found: dict[str, list[float]] = {}
    by_pair = {(row.label, row.mistaken_for): row for row in rows}
    for fix in fixes:
        row = by_pair[fix.label, fix.mistaken_for]
        names = fix.causes or (NO_CAUSE,)
        part = 1 / len(names)
        for name in names:
            sums = found.setdefault(name, [0.0, 0.0, 0.0])
            sums[0] += part
            sums[1] += part * row.bought / row.findings
            sums[2] += part * (row.control or 0) / row.findings
    has_control = any(row.control is not None for row in rows)
    causes = [
        CauseCredit(name, findings, bought, control if has_control else None)
        for name, (findings, bought, control) in found.items()
    ]
    return tuple(sorted(causes, key=lambda row: (-row.bought, row.cause)))
