from __future__ import annotations

import math
from concurrent.futures import CancelledError

import pytest
import torch

from mining.pace import Pace
from mining.recheck import Bound, Recheck, in_parts, measured_bound, near_ties
from tests.mining.scans import Stub

BFLOAT16 = 2.0**-8


def near(
    rows: list[list[float]], true: list[int], below: float = 0.0, share: float = 0.1
) -> list[bool]:
    return near_ties(
        torch.tensor(rows),
        torch.tensor(true),
        bound=Bound(share),
        near_miss_below=below,
    ).tolist()


def test_only_a_gap_under_the_bound_is_near():
    # The largest logit is 10 above the smallest.
    rows = [[10, 10 - 1.01, 0], [10, 10 - 0.99, 0], [10, 10, 0]]
    assert near(rows, [0, 0, 2]) == [False, True, True]


def test_the_threshold_of_near_misses_is_a_tie_too():
    def row(p_true: float) -> list[float]:
        rest = (1 - p_true) / 2
        return [math.log(p_true), math.log(rest), math.log(rest)]

    rows = [row(0.6), row(0.601), row(0.8), row(0.45)]
    assert near(rows, [0] * 4, below=0.6) == [True, True, False, False]
    assert near(rows, [0] * 4, below=0.0) == [False] * 4


def test_what_overflowed_is_near():
    rows = [[math.inf, 0, 0], [math.nan, 5, 1], [9, 0, 0]]
    assert near(rows, [0, 0, 0]) == [True, True, False]


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
def test_adding_a_number_to_all_logits_changes_nothing(shift):
    rows = torch.tensor([[10, 9.9, 0], [10, 5, 0.0]])
    found = near((rows + shift).tolist(), [0, 0], below=0.6)
    assert found == near(rows.tolist(), [0, 0], below=0.6)


def test_the_error_is_that_of_the_gap():
    low = torch.tensor([[4.0, 3.0, 0.0], [1.0, 8.0, 0.0], [2.0, 2.0, 2.0]])
    exact = low + 5  # a shift moves no gap
    assert measured_bound(low, exact) == Bound(0.0, 4.0)
    exact = torch.tensor([[4.0, 3.25, 0.0], [2.0, 8.0, 0.0], [2.0, 2.0, 2.25]])
    assert measured_bound(low, exact) == Bound(2 * 1 / 8, 4.0)
    exact = torch.tensor([[4.0, 3.25, 0.0], [1.0, 8.0, 0.0], [2.0, 4.0, 2.0]])
    assert measured_bound(low, exact) == Bound(2 * 2 / 4, 4.0)


def test_logits_that_are_all_alike_have_the_bound_of_the_others():
    limits = Bound(0.5, typical=4.0).of(torch.tensor([[1.0, 1, 1], [9.0, 1, 0]]))
    assert limits.tolist() == [2.0, 4.5]


class Low(Stub):
    rounding = BFLOAT16
    precision = "bfloat16"
    move = 0.2

    def exact(self, batch):
        return batch[:, 0, 0].float() + torch.tensor([0, self.move, 0])


def again(logits: torch.Tensor, pace: Pace | None = None):
    """Return a check, and the function that gives the pixels of a batch's rows."""
    asked = []

    def pixels(rows: list[int]) -> torch.Tensor:
        asked.append(rows)
        return logits[rows][:, None, None]  # the stub's logits lie in its pixels

    check = Recheck(Low(), near_miss_below=0.0, pace=pace or Pace())
    return check, pixels, asked


def test_the_first_batch_tells_how_near_is_near():
    first = torch.tensor([[10.0, 0, 0]]).repeat(8, 1)  # each moves by 0.02 of its range
    logits = torch.tensor([[10.0, 9.5, 0], [10, 9.7, 0], [10, 9.9, 0]])
    pace = Pace()
    check, pixels, asked = again(first, pace)
    true = torch.zeros(8, dtype=torch.long)
    assert check(first, true, number=0, pixels=pixels) is first
    check_pixels = again(logits)[1]
    found = check(logits, true[:3], number=1, pixels=check_pixels)
    assert torch.allclose(found[0], logits[0])
    assert torch.allclose(found[1], torch.tensor([10, 9.9, 0]))  # 0.03 < 2 x 0.02
    assert torch.allclose(found[2], torch.tensor([10, 10.1, 0]))
    assert asked == [list(range(8))]
    assert (pace.to_dict()["rechecked"], pace.to_dict()["changed"]) == (2, 1)


def test_a_first_batch_of_few_images_is_not_trusted():
    logits = torch.tensor([[10.0, 10 - 10 * 63 * BFLOAT16, 0], [10.0, 0, 0]])
    check, pixels, asked = again(logits)
    check(logits, torch.tensor([0, 0]), number=0, pixels=pixels)
    assert asked == [[0]]


def test_float32_has_nothing_better():
    logits = torch.zeros(9, 3)
    check = Recheck(Stub(), near_miss_below=0.6, pace=Pace())
    assert check(logits, torch.zeros(9), number=1, pixels=None) is logits


def even(n: int, near: int) -> torch.Tensor:
    """Return n rows of which float32 could turn the first few."""
    rows = torch.tensor([[10.0, 0, 0]]).repeat(n, 1)
    rows[:near, 1] = 9.9
    return rows


def tried(near: list[int], *, rows: int = 8, is_needed: bool = False):
    """Return a check that has seen four batches with so many close calls, and its pace."""
    pace = Pace()
    pace.describe(precision="bfloat16")
    check = Recheck(Low(), near_miss_below=0.0, pace=pace, is_needed=is_needed)
    for number, n in enumerate(near):
        assert not check.is_too_coarse
        logits = even(rows, n)
        true = torch.zeros(rows, dtype=torch.long)
        check(logits, true, number=number, pixels=again(logits)[1])
    return check, pace.to_dict()


@pytest.mark.parametrize(
    ("near", "is_needed"), [((8, 8, 0, 0), False), ((8,) * 4, True)]
)
def test_a_type_is_kept_while_it_saves_time_or_is_asked_for(near, is_needed):
    check, said = tried(near, is_needed=is_needed)
    assert not check.is_too_coarse
    assert (said["precision"], said["rechecked"]) == ("bfloat16", sum(near))
    assert "coarse" not in said


def test_a_type_with_too_many_close_calls_is_given_up():
    check, said = tried([8, 8, 0, 1])
    assert check.is_too_coarse
    rows = even(3, 1)
    true = torch.zeros(3, dtype=torch.long)
    for low in (rows, None):  # begun before it was known, and after
        exact = check(low, true, number=4, pixels=again(rows)[1])
        assert torch.allclose(exact, rows + torch.tensor([0, Low.move, 0]))
    assert (said["precision"], said["coarse"]) == ("float32", "bfloat16")
    assert (said["close_calls"], said["rechecked"]) == (0.531, 17)


def test_a_few_images_give_no_type_up():
    check, _ = tried([1, 1, 1, 1], rows=1)
    assert not check.is_too_coarse


@pytest.mark.parametrize("failed", [0, 3])
def test_a_failed_early_batch_leaves_no_later_one_waiting(failed):
    check, pixels, _ = again(torch.zeros(1, 3))
    check.give_up(failed)
    with pytest.raises(CancelledError):
        check(torch.zeros(1, 3), torch.tensor([0]), number=4, pixels=pixels)


def test_a_failed_first_batch_leaves_nobody_waiting():
    check, pixels, _ = again(torch.zeros(1, 3))
    check.give_up(0)
    with pytest.raises(CancelledError):
        check(torch.zeros(1, 3), torch.tensor([0]), number=1, pixels=pixels)


def test_a_limit_is_found_by_halving_and_kept():
    stub = Stub()
    sizes = []

    def run(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError
        return part

    batch = torch.arange(10)
    assert torch.cat(in_parts(stub, run, batch)).tolist() == list(range(10))
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert stub.found.batch_limit == 2
    assert in_parts(stub, run, batch[:0]) == []
