"""The history never says 0 for a scan that did not look."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reviewapp.actions.confusions import update_ledger
from reviewapp.ledger import histories, spark_lines
from reviewapp.models import Confusion, Finding, Scan, User
from reviewapp.templatetags.hardmine import MISSING
from tests import factories
from tests.conftest import World

ClientOf = Callable[[User], Client]
URL = "/datasets/animals/history/"


def counts(world: World, *scans: Scan) -> list[int | None]:
    lines = list(Confusion.objects.with_names().order_by("id")[:1])
    loaded = [Scan.objects.with_names().get(pk=scan.pk) for scan in scans]
    [entry] = histories(lines=lines, scans=loaded)
    return list(entry.counts)


def another_scan(world: World, **fields: object) -> Scan:
    return factories.ScanFactory(
        **{"model_version": world.scan.model_version, "correct": 5} | fields
    )


def test_a_scan_that_covered_the_pair_and_saw_none_says_0(world: World) -> None:
    assert counts(world, world.scan, another_scan(world)) == [3, 0]
    assert counts(world, another_scan(world, split="")) == [0]


def test_another_split_says_nothing(world: World) -> None:
    assert counts(world, another_scan(world, split="val")) == [None]


def test_a_split_where_the_pair_was_found_counts(world: World) -> None:
    sample = factories.SampleFactory(label=world.labels[0], split="val")
    factories.FindingFactory(
        sample=sample, predicted_label=world.labels[1], registered_model=world.model
    )
    assert counts(world, another_scan(world, split="val")) == [0]


def test_a_scan_without_the_class_says_nothing(world: World) -> None:
    before_dogs = [world.labels[0].pk, world.labels[2].pk]
    assert counts(world, another_scan(world, classes=before_dogs)) == [None]


def test_a_scan_of_another_model_says_nothing(world: World) -> None:
    model = factories.RegisteredModelFactory(dataset=world.dataset)
    version = factories.ModelVersionFactory(registered_model=model, checkpoint="b")
    assert counts(world, another_scan(world, model_version=version)) == [None]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([None], []),
        ([5], [["2.0,2.0"]]),
        ([0, 0], [["2.0,22.0", "94.0,22.0"]]),
        ([4, 2, 0], [["2.0,2.0", "48.0,12.0", "94.0,22.0"]]),
        ([4, None, 4], [["2.0,2.0"], ["94.0,2.0"]]),
    ],
)
def test_sparklines_break_where_nothing_is_known(
    given: list[int | None], expected: list[list[str]]
) -> None:
    assert spark_lines(given) == expected


def test_the_ledger_shows_a_dash_for_what_a_scan_did_not_cover(
    world: World, rita: User, client_of: ClientOf
) -> None:
    another_scan(world)
    another_scan(world, classes=[world.labels[0].pk, world.labels[2].pk])
    another_scan(world, state=Scan.State.FAILED)

    response = client_of(rita).get(URL)

    [row] = response.context["rows"]
    assert str(row.entry.line) == "cat → dog"
    assert row.counts == (3, 0, None)
    html = response.content.decode()
    cells = [f'<td class="num">{n}</td>' for n in (3, 0, MISSING)]
    assert "".join(cells) in html
    assert 'aria-label="3, 0, not covered"' in html
    figure = response.context["lines_figure"]
    assert [trace["y"] for trace in figure["traces"]] == [[3, 0, None]]
    errors = response.context["errors_figure"]["traces"]
    assert [(t["name"], t["y"]) for t in errors] == [("resnet", [3, 0, 0])]
    assert "Errors by scan: test" in html
    assert "over=" not in html  # there is nothing to choose


@pytest.fixture
def mixed(world: World) -> dict[str, Scan]:
    """The world's scan of the test split and three of train and val; 3, 1, 2 and 5."""
    kinds = {
        "train": {"split": "train", "covers_train": True},
        "train-out-of-fold": {"split": "train", "covers_train": True, "folds": 5},
        "val": {"split": "val"},
    }
    scans = {"test": world.scan}
    for count, (key, fields) in zip((1, 2, 5), kinds.items(), strict=True):
        scans[key] = another_scan(world, errors=count, **fields)
        factories.ConfusionCountFactory(
            scan=scans[key],
            true_label=world.labels[0],
            predicted_label=world.labels[1],
            count=count,
        )
    another_scan(world, for_record=True, split="")  # does not count
    return scans


@pytest.mark.parametrize(
    ("asked", "shown", "heading", "said"),
    [
        ("", "val", "val", 5),
        ("?over=test", "test", "test", 3),
        ("?over=train", "train", "train", 1),
        ("?over=train-out-of-fold", "train-out-of-fold", "train, out-of-fold", 2),
        ("?over=every-split", "val", "val", 5),  # no such scan
    ],
)
def test_scans_of_one_kind_alone_are_side_by_side(
    mixed: dict[str, Scan],
    rita: User,
    client_of: ClientOf,
    asked: str,
    shown: str,
    heading: str,
    said: int,
) -> None:
    client = client_of(rita)
    line = f"{URL}{Confusion.objects.get().pk}/"
    ledger, detail = client.get(f"{URL}{asked}"), client.get(f"{line}{asked}")
    trends = client.get(f"/datasets/animals/trends/{asked}")

    assert ledger.context["columns"] == [mixed[shown]]
    [row] = ledger.context["rows"]
    assert row.counts == (said,)
    assert detail.context["rows"] == [(mixed[shown], said)]
    assert [point.scan for point in trends.context["points"]] == [mixed[shown]]
    for page in (ledger, detail):
        assert f"<h2>Errors by scan: {heading}</h2>" in page.text
    assert f"<h2>Accuracy: {heading}</h2>" in trends.text
    for page in (ledger, detail, trends):
        chips = re.findall(r'href="([^"]*)" +(aria-current="true")?>', page.text)
        assert [
            (href.rpartition("over=")[2], bool(current))
            for href, current in chips
            if "over=" in href
        ] == [
            (key, key == shown) for key in ("val", "train-out-of-fold", "train", "test")
        ]
    # Links keep it.
    assert f'href="{line}?over={shown}"' in ledger.text
    assert f'name="over" value="{shown}"' in ledger.text
    assert f'href="{URL}?over={shown}"' in detail.text


def test_errors_of_another_split_are_named_so(
    mixed: dict[str, Scan], world: World, rita: User, client_of: ClientOf
) -> None:
    client = client_of(rita)
    [row] = client.get(URL).context["rows"]
    assert (row.value.scan, row.value.count, row.elsewhere) == (
        mixed["val"].pk,
        5,
        None,
    )
    [row] = client.get(URL, {"over": "test"}).context["rows"]
    assert (row.value.count, str(row.elsewhere)) == (5, "val")
    line = f"{URL}{row.entry.line.pk}/"
    page = client.get(line, {"over": "test"})
    assert f"scan {mixed['val'].pk}</a>, val" in page.text
    # What became of the findings is said by the last scan of all.
    assert page.context["last_scan"] == mixed["val"].pk


def test_a_plan_that_is_saved_stays_on_the_chosen_scans(
    mixed: dict[str, Scan], lena: User, client_of: ClientOf
) -> None:
    line = f"{URL}{Confusion.objects.get().pk}/"
    client = client_of(lena)
    for data, status in (({"plan": "augment"}, 302), ({"plan": "dance"}, 400)):
        answer = client.post(f"{line}plan/?over=test", data)
        assert answer.status_code == status
        if status == 302:
            assert answer.headers["Location"] == f"{line}?over=test"
        else:
            assert f'href="{line}?over=val"' in answer.text


def test_a_scan_for_the_record_is_in_no_chart_and_no_column(
    world: World, rita: User, client_of: ClientOf
) -> None:
    old = another_scan(world, for_record=True, errors=2)
    factories.ConfusionCountFactory(
        scan=old, true_label=world.labels[0], predicted_label=world.labels[1], count=2
    )
    client = client_of(rita)

    ledger = client.get(URL)
    line = client.get(f"{URL}{Confusion.objects.get().pk}/")

    assert ledger.context["columns"] == [world.scan]
    assert [row.counts for row in ledger.context["rows"]] == [(3,)]
    for page, figure in (
        (ledger, "errors_figure"),
        (ledger, "lines_figure"),
        (line, "figure"),
    ):
        [trace] = page.context[figure]["traces"]
        assert (trace["x"], trace["y"]) == ([str(world.scan.pk)], [3])
    assert line.context["rows"] == [(world.scan, 3)]
    assert "for the record" not in ledger.text + line.text


def test_one_scan_alone_is_a_dot_and_two_are_a_line(
    world: World, rita: User, client_of: ClientOf
) -> None:
    client = client_of(rita)
    dot = '<polyline class="spark__dot" points="2.0,2.0 2.0,2.0" />'
    assert dot in client.get(URL).text
    another_scan(world)
    assert '<polyline points="2.0,2.0 94.0,22.0" />' in client.get(URL).text


@pytest.mark.parametrize("detail", [False, True])
def test_without_javascript_it_says_where_the_numbers_are(
    world: World, rita: User, client_of: ClientOf, detail: bool
) -> None:
    address = f"{URL}{Confusion.objects.get().pk}/" if detail else URL
    html = client_of(rita).get(address).text
    assert html.count("<noscript>") == html.count('class="chart"') > 0


def test_at_most_four_scans_have_a_column(
    world: World, rita: User, client_of: ClientOf
) -> None:
    scans = [another_scan(world) for _ in range(6)]
    response = client_of(rita).get(URL)
    assert response.context["columns"] == scans[-4:]
    assert len(response.context["rows"][0].entry.counts) == 7


def test_it_filters_by_state_label_and_model(
    world: World, rita: User, client_of: ClientOf
) -> None:
    factories.ConfusionFactory(
        registered_model=world.model,
        true_label=world.labels[1],
        predicted_label=world.labels[2],
        state="fixed",
        present=0,
        peak=9,
    )
    client = client_of(rita)

    def names(**query: object) -> list[str]:
        response = client.get(URL, query)
        return [str(row.entry.line) for row in response.context["rows"]]

    assert names() == ["cat → dog", "dog → fox"]  # what is still seen comes first
    assert names(state="fixed") == ["dog → fox"]
    assert names(true_label=world.labels[0].pk) == ["cat → dog"]
    assert names(predicted_label=world.labels[2].pk) == ["dog → fox"]
    assert len(names(registered_model=world.model.pk)) == 2
    Confusion.objects.filter(present=0).update(owner=rita, plan="augment")
    assert names(owner=rita.pk) == names(plan="augment") == ["dog → fox"]
    assert names(owner="none") == ["cat → dog"]
    assert names(state="nonsense") == ["cat → dog", "dog → fox"]


def test_the_filter_offers_no_label_of_another_data_set(
    world: World, charlie: User, rita: User, client_of: ClientOf
) -> None:
    other = charlie.memberships.get().dataset
    factories.LabelFactory(dataset=other, name="secret class")
    assert "secret class" not in client_of(rita).get(URL).content.decode()


def test_a_made_up_page_token_is_refused(
    world: World, rita: User, client_of: ClientOf
) -> None:
    response = client_of(rita).get(URL, {"after": "made-up"})
    assert response.status_code == 400
    assert "Start from the first page" in response.content.decode()


def test_without_a_ledger_it_says_what_to_do(rita: User, client_of: ClientOf) -> None:
    assert "No confusion to show" in client_of(rita).get(URL).content.decode()


def test_the_line_shows_its_events_scans_and_findings(
    world: World, rita: User, client_of: ClientOf
) -> None:
    Finding.objects.filter(pk=world.findings[0].pk).update(review_state="confirmed")
    update_ledger(dataset=world.dataset, model=world.model, scan=world.scan)
    line = Confusion.objects.get()

    response = client_of(rita).get(f"{URL}{line.pk}/")

    assert [n for _, _, n in response.context["findings"]] == [2, 0, 1, 3]
    assert response.context["rows"] == [(world.scan, 3)]
    html = response.content.decode()
    assert "in review" in html
    assert "3 in this scan, 3 still seen, 2 without a verdict, 1 reviewed" in html
    assert "Review 2" in html


def test_another_teams_line_is_not_found(
    world: World, charlie: User, client_of: ClientOf
) -> None:
    line = Confusion.objects.get()
    client = client_of(charlie)
    assert client.get(f"{URL}{line.pk}/").status_code == 404
    assert client.get(f"/datasets/other/history/{line.pk}/").status_code == 404


def test_it_costs_the_same_queries_for_3_and_30_lines(
    world: World, rita: User, client_of: ClientOf
) -> None:
    client = client_of(rita)

    def add(n: int) -> None:
        for _ in range(n):
            factories.ConfusionFactory(
                registered_model=world.model,
                true_label=world.labels[0],
                predicted_label=factories.LabelFactory(dataset=world.dataset),
                first_scan=world.scan,
                last_scan=world.scan,
            )

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(URL).status_code == 200
        return len(captured)

    queries()  # what is kept for minutes, or for good
    add(2)
    few = queries()
    add(27)
    # Session, user, data set, ledger, kinds of scans, scans, counts, splits; the last
    # scans and what waits for the values; the filter's choices: labels, models, members.
    assert few == queries() == 13
