"""The ledger over the API: value, order, and who may plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from reviewapp.models import Confusion, User
from tests import factories
from tests.conftest import World

ApiOf = Callable[[User], APIClient]
pytestmark = pytest.mark.usefixtures("clean_cache")
URL = "/api/datasets/animals/confusions/"


@pytest.fixture
def address(world: World) -> str:
    return f"{URL}{Confusion.objects.get().pk}/"


def test_a_line_says_what_it_is_worth(
    world: World, rita: User, api_of: ApiOf, address: str
) -> None:
    Confusion.objects.update(evidence={"says": "improving", "why": "zero_once"})
    line = api_of(rita).get(address).json()
    value = line["value"]
    assert (value["scan"], value["count"], value["support"]) == (world.scan.pk, 3, 10)
    assert (value["rate"], value["share"], value["minutes"]) == (0.3, 0.5, 0.5)
    assert value["macro_f1_per_minute"] == pytest.approx(3 / 17)
    assert value["low"] < 0.3 < value["high"]
    assert line["evidence"] == {"says": "improving", "why": "zero_once"}
    assert (line["owner"], line["plan"], line["target"]) == (None, "", None)
    [listed] = api_of(rita).get(URL).json()["results"]
    assert listed == line
    history = api_of(rita).get(f"{address}history/").json()
    assert history["confusion"] == line


def test_lists_come_by_value_in_pages(world: World, rita: User, api_of: ApiOf) -> None:
    fox = factories.ConfusionFactory(
        registered_model=world.model,
        true_label=world.labels[1],
        predicted_label=world.labels[2],
        present=99,
    )
    client = api_of(rita)

    def ids(**query: object) -> list[int]:
        found, url = [], None
        while True:
            page = (
                client.get(url) if url else client.get(URL, {"page_size": 1, **query})
            )
            body = page.json()
            found += [row["id"] for row in body["results"]]
            url = body["next"]
            if url is None:
                return found

    dog = Confusion.objects.exclude(pk=fox.pk).get().pk
    assert ids() == [fox.pk, dog]
    assert ids(ordering="value") == ids(ordering="value_accuracy") == [dog, fox.pk]
    assert ids(ordering="value", owner="none") == [dog, fox.pk]


@pytest.mark.parametrize(
    "query",
    [
        {"ordering": "size"},
        {"ordering": "value", "after": "-1"},
        {"ordering": "value", "page_size": "0"},
        {"owner": "nobody"},
        {"plan": "dance"},
    ],
)
def test_what_cannot_be_asked_is_refused(
    world: World, rita: User, api_of: ApiOf, query: dict[str, str]
) -> None:
    assert api_of(rita).get(URL, query).status_code == 400


def test_a_lead_changes_what_is_named_alone(
    world: World, lena: User, rita: User, api_of: ApiOf, address: str
) -> None:
    client = api_of(lena)
    sent = {"owner": "rita", "plan": "collect", "target": 0}
    assert client.patch(address, sent, format="json").status_code == 200
    answer = client.patch(address, {"target": None}, format="json").json()
    assert (answer["owner"], answer["plan"], answer["target"]) == (
        "rita",
        "collect",
        None,
    )
    answer = client.patch(address, {"owner": None, "plan": ""}, format="json").json()
    assert (answer["owner"], answer["plan"]) == (None, "")
    assert "value" in answer


def test_a_reviewer_takes_a_line_and_nothing_else(
    world: World, rita: User, api_of: ApiOf, address: str
) -> None:
    client = api_of(rita)
    refused = client.patch(address, {"target": 3}, format="json")
    assert refused.status_code == 403
    assert (
        client.patch(address, {"owner": "rita"}, format="json").json()["owner"]
        == "rita"
    )


@pytest.mark.parametrize(
    "body",
    [
        {"owner": "charlie"},
        {"owner": "a\0b"},
        {"plan": "dance"},
        {"target": -1},
        {"target": 2**31},
        {"state": "fixed"},
    ],
)
def test_what_cannot_be_set_is_refused(
    world: World,
    lena: User,
    charlie: User,
    api_of: ApiOf,
    address: str,
    body: dict[str, object],
) -> None:
    assert api_of(lena).patch(address, body, format="json").status_code == 400
    line = Confusion.objects.get()
    assert (line.owner, line.plan, line.target, line.state) == (None, "", None, "open")


def test_another_team_finds_no_line(
    world: World, charlie: User, api_of: ApiOf, address: str
) -> None:
    assert (
        api_of(charlie).patch(address, {"plan": ""}, format="json").status_code == 404
    )
