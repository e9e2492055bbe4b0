"""What a matrix shows agrees with the counts and the findings, whatever is left out."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from mining.ordering import ORDERS, top_classes
from reviewapp.actions.matrices import keep_matrix
from reviewapp.exceptions import Refused
from reviewapp.matrices import SCALES, Choice, draw
from reviewapp.models import (
    ConfusionCount,
    Dataset,
    Finding,
    Label,
    ModelVersion,
    Scan,
    ScanMatrix,
)
from tests import factories

Seen = list[tuple[int, int]]  # places of the true and the predicted class of each image


def count(version: ModelVersion, seen: Seen, classes: list[Label]) -> Scan:
    """Add a finished scan that saw this."""
    wrong = sum(true != predicted for true, predicted in seen)
    scan = factories.ScanFactory(
        model_version=version,
        classes=[label.pk for label in classes],
        correct=len(seen) - wrong,
        errors=wrong,
    )
    ConfusionCount.objects.bulk_create(
        ConfusionCount(
            scan=scan,
            true_label=classes[true],
            predicted_label=classes[predicted],
            count=n,
        )
        for (true, predicted), n in Counter(seen).items()
    )
    return scan


def cells_of(drawing) -> dict[tuple[int, int], int]:
    labels = drawing.now.labels.tolist()
    return {
        (labels[row], labels[column]): int(drawing.now.matrix[row, column])
        for row, column in product(range(len(labels)), repeat=2)
        if drawing.now.matrix[row, column]
    }


def figures_of(drawing) -> np.ndarray:
    """Return the figures of all cells, (N, N)."""
    side = len(drawing.names)
    rows, columns = np.indices((side, side)).reshape(2, -1)
    return drawing.figures(rows, columns).reshape(side, side)


@pytest.fixture
def classes(dataset: Dataset, labels: list[Label]) -> list[Label]:
    """Five, the model's order not that of their ids."""
    more = [factories.LabelFactory(dataset=dataset, name=name) for name in "ab"]
    return [*more, *labels]


choices = st.builds(
    Choice,
    order=st.sampled_from(ORDERS),
    top=st.none() | st.integers(0, 6),
    scale=st.sampled_from(SCALES),
    right=st.booleans(),
)
images = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=images, choice=choices)
def test_each_cell_is_counted_and_none_is_lost(
    version, classes, dataset, seen: Seen, choice: Choice
) -> None:
    scan = count(version, seen, classes)

    drawing = draw(dataset=dataset, scan=scan, against=None, choice=choice)

    shown = drawing.now.labels.tolist()
    counts = scan.confusion_counts.filter(
        true_label__in=shown, predicted_label__in=shown
    )
    counted = {(c.true_label_id, c.predicted_label_id): c.count for c in counts}
    right = {pair: n for pair, n in counted.items() if pair[0] == pair[1]}
    errors = {pair: n for pair, n in counted.items() if pair[0] != pair[1]}
    assert cells_of(drawing) == (counted if choice.right else errors)
    assert drawing.now.errors == sum(errors.values())
    assert drawing.now.right == (sum(right.values()) if choice.right else 0)
    assert (
        len(shown) == len(set(shown)) == min(5, 5 if choice.top is None else choice.top)
    )
    # Shares are of the whole class, also where not all of it is shown.
    support = scan.confusion_counts.all().support()
    assert drawing.now.support.tolist() == [support.get(pk, 0) for pk in shown]
    for cell in drawing.top(99):
        assert cell.count == errors[cell.true_label, cell.predicted_label]
        assert cell.of_actual == pytest.approx(cell.count / support[cell.true_label])
    assert sum(cell.count for cell in drawing.top(99)) == sum(errors.values())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=images, before=images, choice=choices)
def test_a_difference_is_of_the_two_scans_counts(
    version, classes, dataset, seen: Seen, before: Seen, choice: Choice
) -> None:
    scan = count(version, seen, classes)
    other = count(version, before, classes[::-1])  # another order of the same classes

    drawing = draw(dataset=dataset, scan=scan, against=other, choice=choice)

    now = {(classes[t].pk, classes[p].pk): n for (t, p), n in Counter(seen).items()}
    then = {
        (classes[4 - t].pk, classes[4 - p].pk): n
        for (t, p), n in Counter(before).items()
    }
    figures = figures_of(drawing)
    labels = drawing.now.labels.tolist()
    for row, column in product(range(len(labels)), repeat=2):
        pair = labels[row], labels[column]
        if row == column and not choice.right:
            expected = 0.0
        elif choice.scale == "counts":
            expected = now.get(pair, 0) - then.get(pair, 0)
        else:
            side = 0 if choice.scale == "actual" else 1
            expected = _share(now, pair, side) - _share(then, pair, side)
        assert figures[row, column] == pytest.approx(expected)
    for cell in drawing.top(99):
        pair = cell.true_label, cell.predicted_label
        assert (cell.count, cell.before) == (now.get(pair, 0), then.get(pair, 0))


def _share(counts: dict[tuple[int, int], int], pair: tuple[int, int], side: int):
    whole = sum(n for key, n in counts.items() if key[side] == pair[side])
    return counts.get(pair, 0) / whole if whole else 0.0


@pytest.mark.parametrize(
    ("scale", "normalize"),
    [("counts", None), ("actual", "true"), ("predicted", "pred")],
)
def test_it_is_the_matrix_of_scikit_learn(
    version, classes, dataset, scale, normalize
) -> None:
    random = np.random.default_rng(0)
    true, predicted = random.integers(0, 5, (2, 300))
    scan = count(
        version, list(zip(true.tolist(), predicted.tolist(), strict=True)), classes
    )

    drawing = draw(dataset=dataset, scan=scan, against=None, choice=Choice(scale=scale))

    places = [scan.classes.index(pk) for pk in drawing.now.labels.tolist()]
    expected = confusion_matrix(true, predicted, labels=places, normalize=normalize)
    assert figures_of(drawing) == pytest.approx(expected)


def test_classes_that_are_confused_sit_together(version, classes, dataset) -> None:
    seen = [(0, 0)] * 9 + [(0, 3)] * 5 + [(3, 3)] * 9 + [(1, 1)] * 9 + [(1, 4)] * 4
    seen += [(2, 2)] * 9 + [(4, 4)] * 9
    scan = count(version, seen, classes)

    drawing = draw(dataset=dataset, scan=scan, against=None, choice=Choice())

    at = drawing.names.index
    assert abs(at("a") - at("dog")) == 1
    assert abs(at("b") - at("fox")) == 1
    by_name = draw(
        dataset=dataset, scan=scan, against=None, choice=Choice(order="name")
    )
    assert by_name.names == ["a", "b", "cat", "dog", "fox"]


def test_the_top_classes_are_those_with_most_errors(version, classes, dataset) -> None:
    scan = count(version, [(0, 4)] * 3 + [(1, 1)] * 9 + [(2, 3)], classes)
    drawing = draw(dataset=dataset, scan=scan, against=None, choice=Choice(top=2))
    assert sorted(drawing.names) == ["a", "fox"]
    assert (drawing.classes, drawing.now.errors) == (5, 3)
    matrix = keep_matrix(scan=scan).counts(5)
    assert top_classes(matrix, 2).tolist() == [0, 4]


def test_it_says_what_two_scans_do_not_share(version, classes, dataset) -> None:
    scan = count(version, [(0, 1), (0, 0), (2, 2), (2, 0)], classes[:3])
    other = count(version, [(0, 0), (1, 1), (2, 1)], classes[1:4])

    apart = draw(dataset=dataset, scan=scan, against=other, choice=Choice()).apart

    assert (apart.only_now, apart.only_before) == (("a",), ("dog",))
    assert (apart.left_out, apart.left_out_before) == (3, 1)
    assert apart.other_sizes == 2  # b: 0 and 1, cat: 2 and 1


def test_it_refuses_what_has_no_matrix(version, classes, dataset) -> None:
    def drawn(scan: Scan, against: Scan | None = None) -> None:
        draw(dataset=dataset, scan=scan, against=against, choice=Choice())

    two = count(version, [(0, 1)], classes[:2])
    with pytest.raises(Refused, match="no difference to itself"):
        drawn(two, two)
    with pytest.raises(Refused, match="two classes in common"):
        drawn(two, count(version, [(0, 1)], classes[1:3]))
    with pytest.raises(Refused, match="has 1"):
        drawn(count(version, [(0, 0)], classes[:1]))
    running = factories.ScanFactory(model_version=version, state=Scan.State.RUNNING)
    with pytest.raises(Refused, match="is running"):
        drawn(running)
    assert not ScanMatrix.objects.exclude(scan=two).filter(scan=running).exists()


def test_it_refuses_more_classes_than_can_be_put_in_order(version) -> None:
    scan = factories.ScanFactory(model_version=version, classes=list(range(2001)))
    with pytest.raises(Refused, match="2 to 2,000 classes"):
        keep_matrix(scan=scan)


def test_it_is_kept_and_not_counted_again(version, classes) -> None:
    scan = count(version, [(0, 1)] * 70_000 + [(4, 4)], classes)
    first = keep_matrix(scan=scan)
    with CaptureQueriesContext(connection) as queries:
        again = keep_matrix(scan=scan)
    assert len(queries) == 1
    assert again == first
    matrix = again.counts(5)
    assert (matrix[0, 1], matrix[4, 4], matrix.sum()) == (70_000, 1, 70_001)


def test_a_drawn_matrix_stays_in_the_process(version, classes, dataset) -> None:
    scan = count(version, [(0, 1), (2, 2)], classes)
    first = draw(dataset=dataset, scan=scan, against=None, choice=Choice(right=False))
    again = Scan.objects.get(pk=scan.pk)
    with CaptureQueriesContext(connection) as queries:
        shown = draw(dataset=dataset, scan=again, against=None, choice=Choice())
    assert len(queries) == 1  # the names, which may change
    assert (first.now.right, shown.now.right) == (
        0,
        1,
    )  # one that is kept is no other's


def test_of_two_who_look_at_once_one_makes_it(version, classes, monkeypatch) -> None:
    scan = count(version, [(0, 1)], classes)
    made = keep_matrix(scan=scan)
    # The second looks before the first has it, and gets the lock afterwards.
    found = iter([None, made])
    monkeypatch.setattr(
        "django.db.models.QuerySet.first", lambda self: next(found), raising=True
    )
    assert keep_matrix(scan=scan) is made


def test_a_scan_of_a_cell_finds_just_its_errors(world, dataset) -> None:
    later = factories.ScanFactory(model_version=world.scan.model_version)
    seen_by_both = world.findings[0]
    factories.SightingFactory(finding=seen_by_both, scan=later)
    assert list(Finding.objects.seen_by(later.pk)) == [seen_by_both]
    assert Finding.objects.seen_by(world.scan.pk).count() == 3


def test_the_largest_of_many_come_first(version, classes, dataset) -> None:
    seen = [(0, 1)] * 3 + [(1, 0)] * 5 + [(2, 0)] * 2 + [(3, 4)] * 5 + [(4, 4)] * 9
    scan = count(version, seen, classes)
    drawing = draw(
        dataset=dataset, scan=scan, against=None, choice=Choice(order="name")
    )
    tops = [[cell.count for cell in drawing.top(n)] for n in (0, 1, 2, 3, 9)]
    assert tops == [[], [5], [5, 5], [5, 5, 3], [5, 5, 3, 2]]
