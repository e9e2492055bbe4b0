"""Intervals and tests for counts of right and wrong; `docs/analysis.md` has the formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

# Not scipy.stats: it takes a second to load, and the web process waits for it.
from scipy import special

_HALVINGS = 60  # of a range of 2: to the last bit of a float


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Attributes:
        low: Its lower end.
        high: Its upper end.
    """

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The difference of two proportions of the same samples.

    Attributes:
        difference: First minus second, -1 to 1.
        interval: Tango's score interval of it.
        p: Two-sided p value of McNemar's exact test, 0-1; lower speaks against luck.
    """

    difference: float
    interval: Interval
    p: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """One mean over another of the same samples.

    Attributes:
        value: The ratio.
        interval: Its confidence interval.
    """

    value: float
    interval: Interval


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927), without correction.

    Args:
        successes: 0 to n.
        n: How many there were; of none, nothing is known and the interval is 0 to 1.
        level: Share of such intervals that hold the truth, above 0 and below 1.

    Raises:
        ValueError: A number is out of its range.

    >>> interval = wilson(23, 2451)
    >>> f"{interval.low:.4f} {interval.high:.4f}"
    '0.0063 0.0140'
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be from 0 to {n}, not {successes}")
    z = _z(level)
    if n == 0:
        return Interval(0.0, 1.0)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) * z / (1 + z * z / n)
    # At the ends the formula gives 0 and 1, but for rounding.
    return Interval(
        0.0 if successes == 0 else middle - half,
        1.0 if successes == n else middle + half,
    )


def mcnemar_exact(b: int, c: int) -> float:
    """Return the two-sided p value of McNemar's exact test (a binomial test of b and c).

    Args:
        b: Samples that only the first has right.
        c: Samples that only the second has right.

    Returns:
        0-1: how often two equally good models would differ so much; 1 when b equals c.

    Raises:
        ValueError: A count is negative.

    >>> mcnemar_exact(1, 7)
    0.0703125
    """
    if min(b, c) < 0:
        raise ValueError(f"counts must be 0 or more, not {b} and {c}")
    if b == c:
        return 1.0
    # P(X <= k) of a fair coin; exact to rounding also for millions of throws.
    return min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5)))


def holm(pvalues: Sequence[float]) -> list[float]:
    """Correct p values for being several (Holm 1979), in the order given.

    Those at or below 0.05 afterwards are together wrong in at most 5 % of families.

    Raises:
        ValueError: A value is not from 0 to 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(pvalues, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p values must be from 0 to 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


def paired_difference(
    b: int, c: int, n: int, *, level: float = 0.95
) -> PairedDifference:
    """Compare two proportions of the same n samples: first minus second.

    Args:
        b: Samples that only the first has right.
        c: Samples that only the second has right.
        n: All samples, those both or neither have right included.
        level: Of the interval, above 0 and below 1.

    Returns:
        The difference (b - c) / n with Tango's score interval (1998) and McNemar's exact
        test. Of no samples nothing is known: 0, from -1 to 1, p = 1.

    Raises:
        ValueError: A count is negative or b + c is above n.

    >>> found = paired_difference(1, 7, 21)
    >>> f"{found.difference:.3f}, {found.interval.low:.3f} to {found.interval.high:.3f}"
    '-0.286, -0.517 to -0.026'
    """
    if min(b, c) < 0 or b + c > n:
        raise ValueError(f"b and c must be 0 or more and together at most {n}")
    z = _z(level)
    if n == 0:
        return PairedDifference(0.0, Interval(-1.0, 1.0), 1.0)
    interval = Interval(_lowest(b, c, n, z), -_lowest(c, b, n, z))
    return PairedDifference((b - c) / n, interval, mcnemar_exact(b, c))


def samples_needed(
    b: int, c: int, n: int, *, level: float = 0.95, power: float = 0.8
) -> int | None:
    """Return how many samples would show a difference like this one (Miettinen 1968).

    As many as McNemar's test needs to find it with the given power, if the shares of b
    and c among all samples stay what they are.

    Args:
        b: Samples that only the first has right.
        c: Samples that only the second has right.
        n: All samples.
        level: Of the test, above 0 and below 1.
        power: Share of such studies that find it, above 0 and below 1.

    Returns:
        The number of samples; None where b equals c: there is nothing to show.

    Raises:
        ValueError: A count is negative, b + c is above n, or a share is out of its range.

    >>> samples_needed(30, 20, 1000)
    3923
    """
    if min(b, c) < 0 or b + c > n:
        raise ValueError(f"b and c must be 0 or more and together at most {n}")
    if not 0 < power < 1:
        raise ValueError(f"power must be above 0 and below 1, not {power}")
    z, beta = _z(level), float(special.ndtri(power))
    if b == c:
        return None
    unlike, gap = (b + c) / n, (b - c) / n
    root = z * math.sqrt(unlike) + beta * math.sqrt(unlike - gap * gap)
    return math.ceil((root / gap) ** 2)


def ratio_of_means(
    part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64], *, level: float = 0.95
) -> Ratio | None:
    """Return the mean of `part` over that of `whole`, with Fieller's interval (1954).

    Args:
        part: (N,), a number for each sample.
        whole: (N,), another number for each of the same samples.
        level: Of the interval, above 0 and below 1.

    Returns:
        None where the mean of `whole` may be zero: of that there is no part.

    Raises:
        ValueError: The lengths differ.

    >>> found = ratio_of_means(np.array([0, 1, 1, 0, 1]), np.array([1, 1, 2, 1, 1]))
    >>> f"{found.value:.2f}, {found.interval.low:.2f} to {found.interval.high:.2f}"
    '0.50, 0.16 to 0.84'
    """
    if len(part) != len(whole):
        raise ValueError(f"there must be as many numbers: {len(part)}, {len(whole)}")
    z, n = _z(level), len(part)
    if n == 0:
        return None
    upper, lower = float(part.mean()), float(whole.mean())
    spread = (np.cov(part, whole, bias=True) * (z * z / n)).tolist()
    a = lower * lower - spread[1][1]
    if a <= 0:
        return None
    # The ratios r for which part - r * whole may have the mean 0 are between the roots.
    b, c = upper * lower - spread[0][1], upper * upper - spread[0][0]
    root = math.sqrt(max(0.0, b * b - a * c))
    return Ratio(upper / lower, Interval((b - root) / a, (b + root) / a))


def enrichment(hits: int, size: int, all_hits: int, n: int) -> float:
    """Return the p value of Fisher's exact test that a slice has more hits than luck gives.

    Args:
        hits: Hits in the slice.
        size: Samples in the slice.
        all_hits: Hits among all samples.
        n: All samples.

    Returns:
        0-1: the chance that `size` of the n samples, drawn blindly, hold `hits` or more.

    Raises:
        ValueError: The counts do not fit together.

    >>> round(enrichment(3, 4, 4, 8), 4)
    0.2429
    """
    least, most = max(0, size + all_hits - n), min(size, all_hits)
    if not (0 <= size <= n and 0 <= all_hits <= n and least <= hits <= most):
        raise ValueError(
            f"{hits} of {size} cannot be a part of {all_hits} of {n} samples"
        )
    if hits == least:
        return 1.0
    mean = size * all_hits / n
    spread = math.sqrt(mean * (1 - all_hits / n) * (n - size) / max(n - 1, 1))
    reach = int(12 * spread) + 50  # what lies further out is below a float's last bit
    first = max(hits, int(mean) - reach, least)
    last = min(max(hits, int(mean)) + reach, most)
    k = np.arange(first, last + 1)
    logs = _log_choose(all_hits, k) + _log_choose(n - all_hits, size - k)
    return min(1.0, float(np.exp(logs - _log_choose(n, size)).sum()))


@lru_cache  # tables have an interval in each line
def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be above 0 and below 1, not {level}")
    return float(special.ndtri(0.5 + level / 2))


def _lowest(b: int, c: int, n: int, z: float) -> float:
    """Return the difference, below the one seen, whose score statistic is z."""
    low, high = -1.0, (b - c) / n
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        # The likeliest share of c when the difference is `middle` (Tango's q21).
        linear = -b - c + (2 * n - b + c) * middle
        root = math.sqrt(max(0.0, linear**2 + 8 * n * c * middle * (1 - middle)))
        share = (root - linear) / (4 * n)
        variance = max(0.0, n * (2 * share + middle * (1 - middle)))
        if b - c - n * middle > z * math.sqrt(variance):
            low = middle
        else:
            high = middle
    return high


def _log_choose(
    n: int, k: int | npt.NDArray[np.int64]
) -> np.float64 | npt.NDArray[np.float64]:
    chosen: np.float64 | npt.NDArray[np.float64] = (
        special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    )
    return chosen
