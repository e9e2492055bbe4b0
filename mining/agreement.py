"""How far reviewers agree beyond chance: Cohen's and Fleiss' kappa with intervals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from mining.statistics import Interval, wilson

# Below this many findings judged by both, an interval spans half of the scale.
ENOUGH = 20
_Z = 1.959963984540054  # of 95 % of a normal distribution

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far judgements agree.

    Attributes:
        n: Findings that at least two judged.
        observed: Share of the pairs of judgements that are the same, 0-1.
        kappa: Agreement beyond chance; 1: always the same, 0: as often as by chance,
            below 0: less often. None: there is none to compute, because there is
            nothing or everybody says the same of everything.
        interval: 95 % interval of `kappa`; None with it, and below two findings.
    """

    n: int
    observed: float
    kappa: float | None
    interval: Interval | None

    @property
    def is_enough(self) -> bool:
        """Whether `n` is large enough for `kappa` to mean something."""
        return self.n >= ENOUGH


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> Agreement:
    """Return how far two reviewers agree on what both judged (Cohen 1960).

    kappa = (p_o - p_e) / (1 - p_e), p_o the share of equal judgements, p_e the one
    that their own frequencies would give by chance. The interval is kappa +- 1.96
    standard errors of Fleiss, Cohen & Everitt (1969), "Large sample standard errors of
    kappa and weighted kappa", Psychological Bulletin 72, formula 13.

    Args:
        pairs: For each finding, the category of the one and of the other.

    >>> pairs = [("a", "a")] * 20 + [("a", "b")] * 5 + [("b", "a")] * 10
    >>> round(cohen_kappa(pairs + [("b", "b")] * 15).kappa, 3)
    0.4
    """
    if not pairs:
        return Agreement(0, 0.0, None, None)
    names = {name: i for i, name in enumerate(dict.fromkeys(chain(*pairs)))}
    table = np.zeros((len(names), len(names)))  # rows the one, columns the other
    for one, other in pairs:
        table[names[one], names[other]] += 1
    # Counts first: a sum of many 1 / n would not come to 1.
    observed = float(np.trace(table)) / len(pairs)
    table /= len(pairs)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    chance = float(rows @ columns)
    if math.isclose(chance, 1):
        return Agreement(len(pairs), observed, None, None)
    kappa = (observed - chance) / (1 - chance)
    same = np.diag(table) @ (1 - (rows + columns) * (1 - kappa)) ** 2
    crossed = (columns[:, None] + rows[None, :]) ** 2 * (1 - kappa) ** 2
    np.fill_diagonal(crossed, 0)
    excess = (kappa - chance * (1 - kappa)) ** 2
    variance = (same + (table * crossed).sum() - excess) / (1 - chance) ** 2
    error = math.sqrt(max(0.0, float(variance)) / len(pairs))
    interval = _interval(kappa, error, observed, chance, len(pairs))
    return Agreement(len(pairs), observed, kappa, interval)


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> Agreement:
    """Return how far any number of reviewers agree (Fleiss 1971).

    p_o is the mean over findings of the share of equal pairs of judgements, p_e the sum
    of squares of the categories' mean shares. Findings may have different numbers of
    judgements, as in Gwet's generalisation; those with fewer than two are left out. The
    interval is kappa +- 1.96 standard errors of Gwet (2008), "Variance estimation of
    nominal-scale inter-rater reliability with random selection of raters",
    Psychometrika 73: the findings are the sample, the reviewers stay the same.

    Args:
        counts: (findings, categories): how many reviewers chose which.

    >>> round(fleiss_kappa([[2, 0], [0, 2], [1, 1], [2, 0]]).kappa, 3)
    0.467
    """
    several = [row for row in counts if sum(row) >= 2]
    n = len(several)
    if n == 0:
        return Agreement(0, 0.0, None, None)
    table = np.array(several, np.float64)  # (n, categories)
    judges = table.sum(axis=1)
    same = (table * (table - 1)).sum(axis=1) / (judges * (judges - 1))
    shares = table / judges[:, None]
    categories = shares.mean(axis=0)
    observed, chance = float(same.mean()), float(categories @ categories)
    if math.isclose(chance, 1):
        return Agreement(n, observed, None, None)
    kappa = (observed - chance) / (1 - chance)
    error = _gwet_error(same, shares @ categories, kappa=kappa, chance=chance)
    interval = _interval(kappa, error, observed, chance, n)
    return Agreement(n, observed, kappa, interval)


def _gwet_error(
    same: Floats, by_chance: Floats, *, kappa: float, chance: float
) -> float:
    # Each finding's part of kappa, corrected for its part in the chance agreement.
    parts = (same - chance) / (1 - chance)
    parts -= 2 * (1 - kappa) * (by_chance - chance) / (1 - chance)
    n = len(parts)
    return (
        math.sqrt(float(((parts - kappa) ** 2).sum()) / (n * (n - 1))) if n > 1 else 0
    )


def _interval(
    kappa: float, error: float, observed: float, chance: float, n: int
) -> Interval | None:
    if n < 2:
        return None
    if observed == 1:
        # The standard error of no disagreement is 0, yet n findings prove less than
        # that: Wilson's interval of the agreement, the chance agreement taken as given.
        low = wilson(n, n).low
        return Interval((low - chance) / (1 - chance), 1.0)
    half = _Z * error
    return Interval(max(-1.0, kappa - half), min(1.0, kappa + half))
