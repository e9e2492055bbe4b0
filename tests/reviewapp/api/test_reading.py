"""Lists of the API: whose they are, their pages, filters and cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from reviewapp.actions.exports import request_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.models import Confusion, Finding, User, Verdict
from tests import factories
from tests.conftest import World
from tests.reviewing import decide

ApiOf = Callable[[User], APIClient]
URL = "/api/datasets/animals/"


def test_without_a_token_nothing_is_shown(world: World) -> None:
    response = APIClient().get(f"{URL}scans/")
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Token"


def test_a_wrong_token_is_refused(world: World) -> None:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Token " + "0" * 64)
    assert client.get(f"{URL}scans/").status_code == 401


@pytest.mark.parametrize("token", ["\xff\xff", "\0", "a\0" + "0" * 62])
def test_a_token_of_other_characters_is_refused(world: World, token: str) -> None:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    response = client.get(f"{URL}scans/")
    assert response.status_code == 401
    assert "Invalid token" in response.json()["detail"]


def test_an_id_that_no_column_holds_is_not_found(
    world: World, rita: User, api_of: ApiOf
) -> None:
    for digits in (19, 40, 5000):
        response = api_of(rita).get(f"{URL}scans/{'9' * digits}/")
        assert response.status_code == 404


def test_a_browser_session_needs_the_csrf_token_to_write(
    world: World, rita: User
) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(rita, backend="reviewapp.sessions.People")
    assert client.get(f"{URL}findings/").status_code == 200
    refused = client.post(f"{URL}queue/next/", {}, format="json")
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["detail"]


def test_only_ones_own_data_sets_are_listed(
    rita: User, charlie: User, api_of: ApiOf
) -> None:
    def slugs(user: User) -> list[str]:
        return [
            row["slug"] for row in api_of(user).get("/api/datasets/").json()["results"]
        ]

    assert slugs(rita) == ["animals"]
    assert slugs(charlie) == ["other"]
    assert api_of(rita).get("/api/datasets/animals/").json()["name"] == "Animals"


def test_findings_come_hardest_first_in_pages_without_gaps(
    world: World, rita: User, api_of: ApiOf
) -> None:
    client = api_of(rita)
    seen, url = [], f"{URL}findings/?page_size=2"
    while url:
        page = client.get(url).json()
        seen += [row["id"] for row in page["results"]]
        url = page["next"]
    assert seen == [finding.pk for finding in world.findings]


@pytest.mark.parametrize("size", ["0", "-1", "501", "x", "²", "9" * 30, ""])
def test_a_page_size_out_of_range_is_refused(
    world: World, rita: User, api_of: ApiOf, size: str
) -> None:
    response = api_of(rita).get(f"{URL}findings/", {"page_size": size})
    assert response.status_code == 400
    assert "from 1 to 500" in response.json()["detail"]


def test_a_token_of_another_list_is_refused(
    world: World, rita: User, api_of: ApiOf
) -> None:
    client = api_of(rita)
    token = client.get(f"{URL}findings/?page_size=1").json()["next"]
    after = token.partition("after=")[2].partition("&")[0]
    response = client.get(f"{URL}scans/?after={after}")
    assert response.status_code == 400
    assert "Start from the first page" in response.json()["detail"]


def test_findings_are_filtered(world: World, rita: User, api_of: ApiOf) -> None:
    client = api_of(rita)
    Finding.objects.filter(pk=world.findings[0].pk).update(review_state="dismissed")

    def ids(**query: object) -> list[int]:
        return [r["id"] for r in client.get(f"{URL}findings/", query).json()["results"]]

    everything = [finding.pk for finding in world.findings]
    assert ids(review_state="dismissed") == everything[:1]
    assert ids(true_label=world.labels[0].pk, split="test") == everything
    assert ids(true_label=world.labels[1].pk) == []
    assert ids(p_true_below=0.0115) == everything[:2]  # p(true) 0.010, 0.011, 0.012


def test_an_unknown_filter_value_is_said(
    world: World, rita: User, charlie: User, api_of: ApiOf
) -> None:
    other = factories.LabelFactory(dataset=charlie.memberships.get().dataset)
    for query in ({"split": "dev"}, {"true_label": other.pk}, {"true_label": "x"}):
        response = api_of(rita).get(f"{URL}findings/", query)
        assert response.status_code == 400
        assert set(response.json()) == set(query)


def test_a_finding_tells_its_whole_story(
    world: World, rita: User, api_of: ApiOf
) -> None:
    finding = world.findings[0]
    decide(finding=finding, by=rita, verdict=Verdict.CONFIRM, version=0, note="dark")
    told = api_of(rita).get(f"{URL}findings/{finding.pk}/").json()
    assert told["version"] == 1
    assert told["p_true"] == pytest.approx(0.01)
    assert told["true_label"] == {"id": world.labels[0].pk, "name": "cat", "index": 0}
    assert told["image"].endswith(f"/{finding.pk}/{finding.digest}-focus.webp")
    assert [s["scan"] for s in told["sightings"]] == [world.scan.pk]
    [review] = told["reviews"]
    assert (review["reviewer"], review["note"]) == ("rita", "dark")
    assert review["undone"] is False
    assert "url" not in told  # the place of the file is nobody's business


def test_the_ledger_and_a_scan_give_their_confusions(
    world: World, rita: User, api_of: ApiOf
) -> None:
    client = api_of(rita)
    factories.ScanFactory(
        model_version=world.scan.model_version, split="val", correct=1
    )
    [line] = client.get(f"{URL}confusions/", {"state": "open"}).json()["results"]
    assert (line["present"], line["predicted_label"]["name"]) == (3, "dog")
    factories.ScanFactory(
        model_version=world.scan.model_version, correct=1, for_record=True
    )
    history = client.get(f"{URL}confusions/{line['id']}/history/").json()
    assert [entry["count"] for entry in history["counts"]] == [3, None]
    [count] = client.get(f"{URL}scans/{world.scan.pk}/confusions/").json()["results"]
    assert (count["true_label"]["name"], count["count"]) == ("cat", 3)
    scan = client.get(f"{URL}scans/{world.scan.pk}/").json()
    assert (scan["errors"], scan["accuracy"]) == (3, 0.7)


LISTS = {  # queries: token, user, data set, rows (and filters' or pages' own)
    "labels/": 4,
    "registrations/": 4,
    "events/": 4,
    "members/": 4,
    "registered-models/": 4,
    "model-versions/": 4,
    "scans/": 4,
    "schedules/": 4,
    "confusions/": 6,  # the last scans and what waits, for the values
    "findings/": 5,  # the ids of the waiting and the settled ones are merged first
    "reviews/": 4,
    "fix-sets/": 4,
    "exports/": 4,
}


def grow(world: World, n: int, *, by: User) -> None:
    """Add n rows to every list."""
    for finding in world.add_findings(n):
        decide(finding=finding, by=by, verdict=Verdict.CONFIRM, version=0)
        label = factories.LabelFactory(dataset=world.dataset)
        model = factories.RegisteredModelFactory(dataset=world.dataset)
        version = factories.ModelVersionFactory(registered_model=model)
        scan = factories.ScanFactory(model_version=version, requested_by=by)
        factories.ShardFactory(scan=scan)
        factories.RegistrationFactory(dataset=world.dataset)
        factories.MembershipFactory(dataset=world.dataset)
        factories.ScheduleFactory(registered_model=model)
        factories.ConfusionFactory(
            registered_model=model, true_label=label, predicted_label=world.labels[0]
        )
        fix_set = freeze_fix_set(
            dataset=world.dataset,
            name=f"set {finding.pk}",
            findings=Finding.objects.filter(pk=finding.pk),
            by=by,
        )
        request_export(fix_set=fix_set, format="csv", by=by)


def test_every_list_costs_the_same_queries_for_3_and_30_rows(
    world: World, alice: User, api_of: ApiOf
) -> None:
    client = api_of(alice)

    def measure() -> dict[str, int]:
        costs = {}
        client.get(f"{URL}confusions/")  # what is kept for minutes, or for good
        for name in LISTS:
            with CaptureQueriesContext(connection) as captured:
                response = client.get(URL + name)
            assert response.status_code == 200
            assert len(response.json()["results"]) >= 3
            costs[name] = len(captured)
        return costs

    grow(world, 3, by=alice)
    few = measure()
    grow(world, 27, by=alice)
    assert few == measure() == LISTS
    assert Confusion.objects.count() == 31


@pytest.mark.parametrize("name", ["true_labell", "Kind", "page"])
def test_an_unknown_filter_is_refused_not_ignored(api_of, world, rita, name):
    answer = api_of(rita).get(f"/api/datasets/animals/findings/?{name}=1")
    assert answer.status_code == 400
    assert "true_label" in str(answer.json()[name])
