"""Trends: scans with intervals, weeks with verdicts, and nothing of other models."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from reviewapp.actions.reviews import undo
from reviewapp.models import (
    Finding,
    ModelVersion,
    Review,
    Scan,
    Undo,
    User,
    Verdict,
)
from reviewapp.trends import WEEKS, Week, trends_of
from tests import factories, scanning
from tests.conftest import World
from tests.reviewing import decide

ClientOf = Callable[[User], Client]
pytestmark = pytest.mark.usefixtures("clean_cache")
URL = "/datasets/animals/trends/"


def monday(weeks_ago: int = 0) -> date:
    today = timezone.localdate()
    return today - timedelta(days=today.weekday(), weeks=weeks_ago)


def at(day: date, hour: int = 0, minute: int = 0) -> datetime:
    zone = timezone.get_current_timezone()
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)


def review_at(
    world: World, by: User, n: int, verdict: Verdict, moment: datetime
) -> Review:
    fields = {"new_label": world.labels[2]} if verdict is Verdict.RELABEL else {}
    review = decide(finding=world.findings[n], by=by, verdict=verdict, **fields)
    Review.objects.filter(pk=review.pk).update(created_at=moment)
    return review


def weeks(world: World) -> list[Week]:
    return trends_of(world.dataset, world.model).weeks


def test_verdicts_are_counted_in_their_week_to_the_minute(
    world: World, rita: User
) -> None:
    world.add_findings(3)
    last_minute = at(monday(1) + timedelta(days=6), 23, 59)
    review_at(world, rita, 0, Verdict.CONFIRM, at(monday(1)))
    review_at(world, rita, 1, Verdict.RELABEL, last_minute)
    review_at(world, rita, 2, Verdict.DISMISS, at(monday()))
    review_at(world, rita, 3, Verdict.FLAG, at(monday()))
    review_at(world, rita, 4, Verdict.CONFIRM, at(monday(WEEKS - 1)))
    review_at(
        world, rita, 5, Verdict.CONFIRM, at(monday(WEEKS - 1)) - timedelta(minutes=1)
    )
    found = weeks(world)
    assert len(found) == WEEKS
    assert found[0] == Week(monday(WEEKS - 1), 1, 0, 0)
    assert found[-2:] == [Week(monday(1), 1, 1, 0), Week(monday(), 0, 0, 1)]
    assert sum(week.verdicts for week in found) == 4


def test_what_was_taken_back_in_its_week_is_left_out_for_good(
    world: World, rita: User
) -> None:
    later = review_at(world, rita, 0, Verdict.CONFIRM, at(monday(2)))
    same = review_at(world, rita, 1, Verdict.CONFIRM, at(monday(2)))
    for review, when in ((later, monday(1)), (same, monday(2) + timedelta(days=6))):
        undo(review=review, by=rita)
        Undo.objects.filter(review=review).update(created_at=at(when, 1))
    assert weeks(world)[-3] == Week(monday(2), 1, 0, 0)


def test_a_past_week_is_counted_once(world: World, rita: User) -> None:
    weeks(world)
    with CaptureQueriesContext(connection) as captured:
        weeks(world)
    assert [q["sql"] for q in captured if "reviewapp_review" in q["sql"]] == []


def test_another_models_verdicts_and_scans_are_its_own(
    world: World, rita: User
) -> None:
    other = factories.RegisteredModelFactory(dataset=world.dataset)
    review_at(world, rita, 0, Verdict.CONFIRM, at(monday()))
    found = trends_of(world.dataset, other)
    assert found.points == []
    assert not any(week.verdicts for week in found.weeks)


def test_the_points_are_the_scans_that_count_with_their_interval(world: World) -> None:
    version = world.scan.model_version
    factories.ScanFactory(model_version=version, for_record=True, correct=1)
    factories.ScanFactory(model_version=version, state=Scan.State.FAILED)
    last = factories.ScanFactory(model_version=version, correct=9, errors=1, waiting=4)
    found = trends_of(world.dataset, world.model).points
    assert [(point.scan, point.scan.waiting) for point in found] == [
        (world.scan, None),
        (last, 4),
    ]
    # Wilson for 7 of 10.
    assert found[0].interval.low == pytest.approx(0.3968, abs=1e-4)
    assert found[0].interval.high == pytest.approx(0.8922, abs=1e-4)


def test_the_page_draws_and_writes_the_same_numbers(
    world: World, rita: User, client_of: ClientOf
) -> None:
    review_at(world, rita, 0, Verdict.CONFIRM, at(monday()))
    factories.ScanFactory(
        model_version=world.scan.model_version, split="val", correct=6, errors=4
    )
    response = client_of(rita).get(URL, {"over": "test"})
    accuracy, errors, verdicts = (figure for *_, figure in response.context["figures"])
    assert [(t["name"], t["y"]) for t in accuracy["traces"]] == [("test", [70.0])]
    [bar] = accuracy["traces"][0]["error_y"]["array"]
    assert bar == pytest.approx(19.22, abs=0.01)
    assert [(t["name"], t["y"]) for t in errors["traces"]] == [
        ("errors, test", [3]),
        ("findings without a verdict at its end", [None]),
    ]
    assert verdicts["traces"][0]["y"][-1] == 1
    assert "39.7 % to 89.2 %" in response.text
    assert response.context["weeks"] == [Week(monday(), 1, 0, 0)]
    assert (
        response.text.count("<noscript>") == response.text.count('class="chart"') == 3
    )


def test_it_costs_the_same_for_one_scan_and_for_thirty(
    world: World, rita: User, client_of: ClientOf
) -> None:
    client = client_of(rita)
    client.get(URL)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(URL).status_code == 200
        return len(captured)

    few = queries()
    for _ in range(30):
        factories.ScanFactory(model_version=world.scan.model_version)
    # Session, user, data set, kinds of scans, scans, models.
    assert few == queries() == 6


def test_a_scan_writes_down_what_waits_when_it_has_ended(
    net: ModelVersion, staff: User
) -> None:
    first = scanning.scan(net)
    waiting = Finding.objects.waiting().count()
    assert first.waiting == waiting > 1
    finding = Finding.objects.waiting().hardest_first()[0]
    decide(finding=finding, by=staff, verdict=Verdict.DISMISS)
    assert scanning.scan(net).waiting == waiting - 1


def test_a_chosen_model_and_one_of_another_data_set(
    world: World, rita: User, charlie: User, client_of: ClientOf
) -> None:
    quiet = factories.RegisteredModelFactory(dataset=world.dataset, name="quiet")
    theirs = factories.RegisteredModelFactory(dataset=charlie.memberships.get().dataset)
    client = client_of(rita)
    page = client.get(URL, {"model": quiet.pk})
    assert "No scan of this model that counts" in page.text
    assert client.get(URL, {"model": theirs.pk}).status_code == 404
    assert client.get(URL, {"model": "²"}).status_code == 404
    assert client_of(charlie).get(URL).status_code == 404


def test_before_the_first_scan_it_says_what_to_do(
    dataset: object, rita: User, client_of: ClientOf
) -> None:
    assert "Trends begin with the first" in client_of(rita).get(URL).text
    api = APIClient()
    api.force_authenticate(rita)
    refused = api.get(f"/api{URL}", {"model": 3})  # the page's name
    assert (refused.status_code, list(refused.json())) == (400, ["model"])


def test_the_api_says_the_same(world: World, rita: User, charlie: User) -> None:
    api = APIClient()
    api.force_authenticate(rita)
    review_at(world, rita, 0, Verdict.RELABEL, at(monday()))
    answer = api.get(f"/api{URL}", {"registered_model": world.model.pk}).json()
    [point] = answer["points"]
    assert (point["scan"], point["accuracy"], point["errors"]) == (
        world.scan.pk,
        0.7,
        3,
    )
    assert (point["split"], point["folds"]) == ("test", 0)
    assert (point["waiting"], point["readable"]) == (None, 10)
    assert answer["weeks"][-1] == {
        "start": monday().isoformat(),
        "verdicts": 1,
        "confirmed": 0,
        "relabelled": 1,
        "dismissed": 0,
    }
    assert api.get(f"/api{URL}").json() == answer  # the one scanned last
    assert api.get(f"/api{URL}", {"registered_model": "x"}).status_code == 404
    api.force_authenticate(charlie)
    url = f"/api/datasets/other/trends/?registered_model={world.model.pk}"
    assert api.get(url).status_code == 404
    # No scan yet, and not a word of another data set's.
    assert api.get("/api/datasets/other/trends/").json() == {"points": [], "weeks": []}
