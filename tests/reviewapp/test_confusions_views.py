"""The confusions page says the numbers of one finished scan, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reviewapp.models import ConfusionCount, Scan, User
from tests import factories
from tests.conftest import World

ClientOf = Callable[[User], Client]
URL = "/datasets/animals/confusions/"


def rows_of(response) -> list[tuple[str, str, int]]:
    return [
        (row.true_label.name, row.predicted_label.name, row.count)
        for row in response.context["rows"]
    ]


def count(world: World, true: int, predicted: int, n: int) -> None:
    factories.ConfusionCountFactory(
        scan=world.scan,
        true_label=world.labels[true],
        predicted_label=world.labels[predicted],
        count=n,
    )


def test_it_shows_counts_shares_rates_and_what_waits(
    world: World, rita: User, client_of: ClientOf
) -> None:
    count(world, 1, 2, 1)
    count(world, 1, 1, 3)
    Scan.objects.filter(pk=world.scan.pk).update(errors=4, correct=10, samples=14)

    response = client_of(rita).get(URL)

    assert rows_of(response) == [("cat", "dog", 3), ("dog", "fox", 1)]
    first, second = response.context["rows"]
    assert (first.share, first.support, first.rate) == (0.75, 10, 0.3)
    assert (second.share, second.support, second.rate) == (0.25, 4, 0.25)
    assert (first.waiting, second.waiting) == (3, 0)
    assert first.line.state == "open"
    assert second.line is None
    html = response.content.decode()
    assert "4 errors (28.6 %) in 14 images" in html
    assert f'name="predicted_label" value="{world.labels[1].pk}"' in html
    assert html.count('name="true_label"') == 1  # nothing waits in dog → fox


def test_the_matrix_links_each_error_and_leaves_the_diagonal_pale(
    world: World, rita: User, client_of: ClientOf
) -> None:
    response = client_of(rita).get(URL)

    cells = {
        (true.name, cell.predicted_label.name): (cell.count, cell.heat)
        for true, row in response.context["matrix"]
        for cell in row
    }
    assert len(cells) == 9
    assert cells["cat", "cat"] == (7, 0.0)
    assert cells["cat", "dog"] == (3, 0.3)  # 3 of 10, doubled, of at most 0.5
    assert cells["dog", "cat"] == (0, 0.0)
    link = f"?true_label={world.labels[0].pk}&amp;predicted_label={world.labels[1].pk}"
    assert response.content.decode().count(link) == 3  # table, its grid, matrix


def test_more_than_thirty_classes_give_no_matrix(
    world: World, rita: User, client_of: ClientOf
) -> None:
    more = [factories.LabelFactory(dataset=world.dataset) for _ in range(28)]
    classes = [*world.scan.classes, *(label.pk for label in more)]
    Scan.objects.filter(pk=world.scan.pk).update(classes=classes)

    response = client_of(rita).get(URL)

    assert response.context["matrix"] == []
    assert rows_of(response) == [("cat", "dog", 3)]


def test_the_last_finished_scan_is_shown_unless_another_is_chosen(
    world: World, rita: User, client_of: ClientOf
) -> None:
    later = factories.ScanFactory(model_version=world.scan.model_version, correct=10)
    factories.ScanFactory(
        model_version=world.scan.model_version, state=Scan.State.RUNNING
    )
    client = client_of(rita)

    last = client.get(URL)
    chosen = client.get(URL, {"scan": world.scan.pk})

    assert last.context["scan"] == later
    assert "No errors" in last.content.decode()
    assert rows_of(chosen) == [("cat", "dog", 3)]


def test_a_scan_for_the_record_may_be_chosen_and_offers_no_review(
    world: World, rita: User, client_of: ClientOf
) -> None:
    old = factories.ScanFactory(
        model_version=world.scan.model_version, correct=8, errors=2, for_record=True
    )
    for predicted, n in ((0, 8), (1, 2)):
        factories.ConfusionCountFactory(
            scan=old,
            true_label=world.labels[0],
            predicted_label=world.labels[predicted],
            count=n,
        )
    client = client_of(rita)

    opened = client.get(URL)
    chosen = client.get(URL, {"scan": old.pk})

    assert opened.context["scan"] == world.scan
    assert opened.text.count(", for the record</option>") == 1
    assert rows_of(chosen) == [("cat", "dog", 2)]
    review = 'action="/datasets/animals/review/next/"'
    for said in (review, ">Waiting</th>", ">State</th>"):
        assert (said in opened.text, said in chosen.text) == (True, False), said


@pytest.mark.parametrize("scan", ["999999", "abc", "-1", "9" * 40, "²", "9" * 5000])
def test_an_unknown_scan_is_not_found(
    world: World, rita: User, client_of: ClientOf, scan: str
) -> None:
    assert client_of(rita).get(URL, {"scan": scan}).status_code == 404


def test_another_teams_scan_is_not_found(
    world: World, charlie: User, client_of: ClientOf
) -> None:
    response = client_of(charlie).get(
        f"/datasets/other/confusions/?scan={world.scan.pk}"
    )
    assert response.status_code == 404


def test_without_a_scan_it_says_what_to_do(rita: User, client_of: ClientOf) -> None:
    response = client_of(rita).get(URL)
    assert "No finished scan yet" in response.content.decode()


def test_pages_follow_each_other_without_gaps(
    world: World, rita: User, client_of: ClientOf
) -> None:
    ConfusionCount.objects.all().delete()
    many = [factories.LabelFactory(dataset=world.dataset) for _ in range(60)]
    for label in many:
        factories.ConfusionCountFactory(
            scan=world.scan, true_label=world.labels[0], predicted_label=label, count=2
        )
    client = client_of(rita)

    first = client.get(URL)
    second = client.get(URL, {"scan": world.scan.pk, "after": first.context["next"]})

    seen = [row[1] for row in rows_of(first) + rows_of(second)]
    assert len(rows_of(first)) == 50
    assert sorted(seen) == sorted(label.name for label in many)
    assert second.context["next"] is None


def test_it_costs_the_same_queries_for_3_and_30_rows(
    world: World, rita: User, client_of: ClientOf
) -> None:
    client = client_of(rita)

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert client.get(URL).status_code == 200
        return len(captured)

    count(world, 1, 2, 1)
    count(world, 2, 1, 1)
    few = queries()
    for label in [factories.LabelFactory(dataset=world.dataset) for _ in range(27)]:
        factories.ConfusionCountFactory(
            scan=world.scan, true_label=world.labels[0], predicted_label=label
        )
    # Session, user, data set, scans, the last one, support, counts, waiting, ledger,
    # labels, matrix.
    assert few == queries() == 11
