"""A scan through the API: how it goes, its shards, what it could not read, resuming."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rest_framework.test import APIClient

from reviewapp import tasks
from reviewapp.models import Scan, Shard, UnreadableSample, User
from tests import factories
from tests.conftest import World

ApiOf = Callable[[User], APIClient]
URL = "/api/datasets/animals/scans/"
PACE = {"device": "cpu", "lanes": 2, "images": 3, "seconds": 2.0, "model_s": 4.0}


@pytest.fixture
def partial(world: World) -> Scan:
    """A scan of 3 + 1 samples, whose second part is quarantined."""
    scan = factories.ScanFactory(
        model_version=world.scan.model_version,
        state=Scan.State.PARTIAL,
        correct=2,
        errors=1,
        rechecked=2,
        changed=1,
        samples=4,
        message="Part 2 is missing.",
    )
    done = factories.ShardFactory(
        scan=scan,
        samples=3,
        samples_done=3,
        correct=3,
        state=Shard.State.DONE,
        worker="a",
        pace=PACE,
    )
    factories.ShardFactory(
        scan=scan,
        number=done.number + 1,
        state=Shard.State.QUARANTINED,
        attempts=3,
        failures=3,
        message="bad file",
    )
    return scan


def test_a_scan_tells_how_it_goes(partial: Scan, rita: User, api_of: ApiOf) -> None:
    told = api_of(rita).get(f"{URL}{partial.pk}/").json()
    assert (told["state"], told["rechecked"], told["changed"]) == ("partial", 2, 1)
    assert (told["samples_done"], told["accuracy"]) == (3, None)
    assert told["progress"]["shards"] == {
        "queued": 0,
        "running": 0,
        "done": 1,
        "quarantined": 1,
    }
    assert told["progress"]["pace"] == PACE
    assert told["progress"]["seconds_left"] is None
    assert told["progress"]["bottleneck"].startswith("The model takes 100 %")
    [listed] = api_of(rita).get(URL, {"state": "partial"}).json()["results"]
    assert "progress" not in listed  # it costs three queries a scan


def test_its_shards_are_listed_and_filtered(
    partial: Scan, rita: User, api_of: ApiOf
) -> None:
    client = api_of(rita)
    first = client.get(f"{URL}{partial.pk}/shards/", {"page_size": 1}).json()
    assert [row["number"] for row in first["results"]] == [1]
    assert [row["number"] for row in client.get(first["next"]).json()["results"]] == [0]
    address = f"{URL}{partial.pk}/shards/"
    [bad] = client.get(address, {"state": "quarantined"}).json()["results"]
    assert (bad["failures"], bad["message"], bad["pace"]) == (3, "bad file", {})
    assert client.get(address, {"state": "lost"}).status_code == 400
    assert client.get(address, {"worker": "a"}).status_code == 400


def test_what_could_not_be_read_is_listed_with_its_picture(
    partial: Scan, world: World, rita: User, api_of: ApiOf
) -> None:
    for digest in ("", "d" * 64):
        UnreadableSample.objects.create(
            scan=partial,
            sample=factories.SampleFactory(label=world.labels[0]),
            reason="truncated",
            digest=digest,
        )
    rows = api_of(rita).get(f"{URL}{partial.pk}/unreadable/").json()["results"]
    seen = UnreadableSample.objects.order_by("-sample_id").select_related("sample")
    assert [row["key"] for row in rows] == [row.sample.key for row in seen]
    picture = f"unreadable/{seen[0].sample_id}/{'d' * 64}-focus.webp"
    assert [row["image"] for row in rows] == [
        f"/datasets/animals/scans/{partial.pk}/{picture}",
        None,
    ]
    assert {row["reason"] for row in rows} == {"truncated"}


def test_a_lead_resumes_a_partial_scan(
    partial: Scan,
    rita: User,
    lena: User,
    api_of: ApiOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call: call())
    monkeypatch.setattr(
        tasks.run_shard, "apply_async", lambda args, **_: sent.extend(args)
    )
    address = f"{URL}{partial.pk}/resume/"
    assert api_of(rita).post(address).status_code == 403
    answer = api_of(lena).post(address)
    assert answer.status_code == 202
    assert answer.json()["state"] == "running"
    assert answer.json()["progress"]["shards"]["queued"] == 1
    missing = partial.shards.get(state=Shard.State.QUEUED)
    assert missing.pk in sent
    assert api_of(lena).post(address).status_code == 400


def test_a_scan_of_another_data_set_is_not_there(rita: User, api_of: ApiOf) -> None:
    foreign = factories.ScanFactory()
    for name in ("", "shards/", "unreadable/"):
        assert api_of(rita).get(f"{URL}{foreign.pk}/{name}").status_code == 404
