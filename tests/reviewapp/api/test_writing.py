"""The API's verbs do what the pages do, under the same rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rest_framework.test import APIClient

from reviewapp import tasks
from reviewapp.actions.exports import run_export
from reviewapp.models import (
    Claim,
    Dataset,
    Export,
    Finding,
    FixSet,
    Membership,
    Review,
    Scan,
    Schedule,
    Skip,
    User,
)
from tests import factories
from tests.conftest import World

ApiOf = Callable[[User], APIClient]
URL = "/api/datasets/animals/"


@pytest.fixture(autouse=True)
def sent(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks
) -> dict[str, list[int]]:
    """Return task name -> ids that were sent to a worker."""
    sent: dict[str, list[int]] = {"registration": [], "shard": [], "export": []}
    for name, ids in sent.items():
        task = getattr(tasks, f"run_{name}")
        monkeypatch.setattr(
            task, "apply_async", lambda args, ids=ids, **_: ids.extend(args)
        )
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call: call())
    return sent


def test_scripts_review_a_finding_from_claim_to_undo(
    world: World, rita: User, api_of: ApiOf
) -> None:
    client = api_of(rita)
    held = client.post(f"{URL}queue/next/", {"limit": 2}).json()
    assert [row["id"] for row in held] == [f.pk for f in world.findings[:2]]

    verdict = {
        "verdict": "relabel",
        "version": held[0]["version"],
        "new_label": world.labels[2].pk,
        "causes": ["label_wrong"],
        "note": "a fox",
    }
    made = client.post(f"{URL}findings/{held[0]['id']}/decide/", verdict)
    assert made.status_code == 201
    assert made.json()["said"] == "Relabelled."
    review = made.json()["review"]
    assert review["new_label"]["name"] == "fox"
    assert Finding.objects.get(pk=held[0]["id"]).review_state == "relabelled"

    skipped = client.post(f"{URL}findings/{held[1]['id']}/skip/")
    assert skipped.status_code == 204
    assert Skip.objects.get().finding_id == held[1]["id"]

    undone = client.post(f"{URL}reviews/{review['id']}/undo/")
    assert undone.json()["undone"] is True
    assert Finding.objects.get(pk=held[0]["id"]).review_state == "open"

    client.post(f"{URL}queue/next/", {})
    assert client.post(f"{URL}queue/release/").json() == {"findings": 2}
    assert not Claim.objects.exists()


def test_a_claim_takes_errors_unless_the_filter_names_near_misses(
    world: World, rita: User, api_of: ApiOf
) -> None:
    near = factories.FindingFactory(
        sample=factories.SampleFactory(label=world.labels[2]),
        predicted_label=world.labels[2],
        registered_model=world.model,
        priority=0.999,
    )
    client = api_of(rita)
    errors = client.post(f"{URL}queue/next/", {}).json()
    assert near.pk not in [row["id"] for row in errors]
    misses = client.post(f"{URL}queue/next/", {"lane": "near_miss"}).json()
    assert [row["id"] for row in misses] == [near.pk]


@pytest.mark.parametrize(
    ("verdict", "status", "said"),
    [
        ({"verdict": "confirm", "version": 7}, 409, "changed"),
        ({"verdict": "relabel", "version": 0}, 400, "Choose the label"),
        ({"verdict": "relabel", "version": 0, "new_label": 10**30}, 404, "No Label"),
        ({"verdict": "maybe", "version": 0}, 400, "not a valid choice"),
        ({"verdict": "confirm"}, 400, "required"),
        ({"verdict": "confirm", "version": 0, "causes": ["moon"]}, 400, "moon"),
        ({"verdict": "confirm", "version": 0, "note": "a\0b"}, 400, "Null"),
        ([], 400, "Invalid data"),
    ],
)
def test_a_bad_verdict_is_refused_and_nothing_recorded(
    world: World,
    rita: User,
    api_of: ApiOf,
    verdict: object,
    status: int,
    said: str,
) -> None:
    url = f"{URL}findings/{world.findings[0].pk}/decide/"
    response = api_of(rita).post(url, verdict)
    assert response.status_code == status
    assert said in response.content.decode() or status == 404
    assert not Review.objects.exists()


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("members/", '{"username": "\\ud800", "role": "lead"}', "half a character"),
        ("members/", '{"username": "lena", "role": "\\ud800"}', "half a character"),
        ("scans/", '{"settings": {"\\udfff": 1}}', "half a character"),
        ("scans/", '{"settings": [["a", "\\ud800"]]}', "half a character"),
        ("exports/", '{"fix_set": 1, "format": "\\ud800"}', "half a character"),
        ("scans/", "[" * 100_000, "nested"),
        ("scans/", '{"a":' * 100_000, "nested"),
        ("members/", '{"role": ' + "[" * 50 + "]" * 50 + "}", "nested"),
        ("members/", '{"role": ' + "9" * 5000 + "}", "JSON parse error"),
    ],
)
def test_a_body_that_nothing_can_hold_is_refused(
    world: World, alice: User, api_of: ApiOf, path: str, body: str, said: str
) -> None:
    response = api_of(alice).generic("POST", URL + path, body, "application/json")
    assert response.status_code == 400
    assert said in response.json()["detail"]


def test_a_whole_character_of_two_halves_is_taken(
    world: World, rita: User, api_of: ApiOf
) -> None:
    url = f"{URL}findings/{world.findings[0].pk}/decide/"
    body = '{"verdict": "confirm", "version": 0, "note": "\\ud83d\\ude00"}'
    response = api_of(rita).generic("POST", url, body, "application/json")
    assert response.json()["review"]["note"] == "\N{GRINNING FACE}"


def test_another_reviewers_finding_and_verdict_are_theirs(
    world: World, rita: User, lena: User, api_of: ApiOf
) -> None:
    finding = api_of(lena).post(f"{URL}queue/next/", {"limit": 1}).json()[0]
    url = f"{URL}findings/{finding['id']}/decide/"
    verdict = {"verdict": "confirm", "version": 0}
    held = api_of(rita).post(url, verdict)
    assert held.status_code == 409
    assert "lena" in held.json()["detail"]
    review = api_of(lena).post(url, verdict).json()["review"]
    not_mine = api_of(rita).post(f"{URL}reviews/{review['id']}/undo/")
    assert not_mine.status_code == 403


def test_a_label_of_another_data_set_is_not_found(
    world: World, rita: User, charlie: User, api_of: ApiOf
) -> None:
    other = factories.LabelFactory(dataset=charlie.memberships.get().dataset)
    response = api_of(rita).post(
        f"{URL}findings/{world.findings[0].pk}/decide/",
        {"verdict": "relabel", "version": 0, "new_label": other.pk},
    )
    assert response.status_code == 404


def test_a_lead_starts_and_cancels_a_scan(
    world: World, lena: User, api_of: ApiOf, sent: dict[str, list[int]]
) -> None:
    client = api_of(lena)
    body = {
        "model_version": world.scan.model_version_id,
        "split": "test",
        "settings": {"near_miss_below": 0.5},
    }
    started = client.post(f"{URL}scans/", body)
    assert started.status_code == 202
    scan = Scan.objects.get(pk=started.json()["id"])
    assert (scan.trigger, scan.samples, scan.requested_by) == ("api", 3, lena)
    assert scan.settings["near_miss_below"] == 0.5
    assert sent["shard"] == [scan.shards.get().pk]

    again = client.post(f"{URL}scans/", body)
    assert again.status_code == 409
    cancelled = client.post(f"{URL}scans/{scan.pk}/cancel/")
    assert cancelled.json()["state"] == "cancelled"
    assert client.post(f"{URL}scans/{scan.pk}/cancel/").status_code == 400


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"settings": {"near_miss_below": 7}}, "near_miss_below"),
        ({"settings": {"speed": "fast"}}, "speed"),
        ({"split": "dev"}, "not a valid choice"),
        ({"split": "val"}, "no samples in the split val"),
    ],
)
def test_a_scan_that_makes_no_sense_is_refused(
    world: World, lena: User, api_of: ApiOf, body: dict[str, object], said: str
) -> None:
    body = {"model_version": world.scan.model_version_id} | body
    response = api_of(lena).post(f"{URL}scans/", body)
    assert response.status_code == 400
    assert said in response.content.decode()
    assert Scan.objects.count() == 1


def test_a_model_version_of_another_team_is_not_found(
    world: World, lena: User, api_of: ApiOf
) -> None:
    other = factories.ModelVersionFactory(checkpoint="b")
    response = api_of(lena).post(f"{URL}scans/", {"model_version": other.pk})
    assert response.status_code == 404


def test_a_lead_schedules_changes_and_removes(
    world: World, lena: User, api_of: ApiOf
) -> None:
    client = api_of(lena)
    body = {"registered_model": world.model.pk, "cron": "0 2 * * *"}
    made = client.post(f"{URL}schedules/", body)
    assert made.status_code == 201
    changed = client.post(f"{URL}schedules/", body | {"cron": "0 3 * * *"}).json()
    assert (changed["id"], changed["cron"]) == (made.json()["id"], "0 3 * * *")
    bad = client.post(f"{URL}schedules/", body | {"cron": "at night"})
    assert bad.status_code == 400
    assert Schedule.objects.get().cron == "0 3 * * *"
    assert client.delete(f"{URL}schedules/{changed['id']}/").status_code == 204
    assert not Schedule.objects.exists()


def test_an_admin_freezes_exports_and_downloads(
    world: World, alice: User, api_of: ApiOf, sent: dict[str, list[int]]
) -> None:
    client = api_of(alice)
    for finding in world.findings[:2]:
        url = f"{URL}findings/{finding.pk}/decide/"
        client.post(url, {"verdict": "confirm", "version": 0})
    chosen = {"filter": {"true_label": world.labels[0].pk, "p_true_below": 0.5}}

    preview = client.post(f"{URL}fix-sets/preview/", chosen).json()
    assert (preview["size"], preview["by_label"]) == (2, {"cat": 2})
    assert not FixSet.objects.exists()

    frozen = client.post(f"{URL}fix-sets/", {"name": "cats"} | chosen)
    assert frozen.status_code == 201
    assert frozen.json()["filter"] == {"true_label": "cat", "p_true_below": "0.5"}
    items = client.get(f"{URL}fix-sets/{frozen.json()['id']}/items/").json()
    assert {row["label"] for row in items["results"]} == {"cat"}

    body = {"fix_set": frozen.json()["id"], "format": "csv"}
    queued = client.post(f"{URL}exports/", body)
    assert queued.status_code == 202
    export = Export.objects.get()
    assert sent["export"] == [export.pk]
    download = f"{URL}exports/{export.pk}/download/"
    assert client.get(download).status_code == 400
    run_export(export=export)
    polled = client.get(f"{URL}exports/{export.pk}/").json()
    assert (polled["state"], polled["done"]) == ("done", 2)
    data = b"".join(client.get(download).streaming_content)
    assert len(data) == polled["size"]
    assert data.count(b"\n") == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x", "filter": {"true_label": 999_999}}, "true_label"),
        ({"name": "x", "filter": {"kind": "odd"}}, "filter"),
        ({"name": "x", "filter": {"p_true_below": 2}}, "filter"),
        ({"name": "x"}, "detail"),
    ],
)
def test_a_fix_set_that_cannot_be_is_refused(
    world: World, alice: User, api_of: ApiOf, body: dict[str, object], field: str
) -> None:
    response = api_of(alice).post(f"{URL}fix-sets/", body)
    assert response.status_code == 400
    assert field in response.json()
    assert not FixSet.objects.exists()


def test_an_admin_manages_members_but_never_leaves_the_data_set_alone(
    alice: User, rita: User, charlie: User, api_of: ApiOf
) -> None:
    client = api_of(alice)
    url = f"{URL}members/"
    lead = client.post(url, {"username": "charlie", "role": "lead"})
    assert lead.json()["role"] == "lead"
    assert client.delete(f"{url}{lead.json()['id']}/").status_code == 204
    unknown = client.post(url, {"username": "nobody", "role": "lead"})
    assert unknown.status_code == 400
    own = Membership.objects.get(user=alice)
    alone = client.delete(f"{url}{own.pk}/")
    assert alone.status_code == 400
    assert "only admin" in alone.json()["detail"]


def test_staff_register_a_data_set_and_an_admin_registers_it_again(
    dataset: Dataset, alice: User, api_of: ApiOf, sent: dict[str, list[int]]
) -> None:
    client = api_of(alice)
    body = {"name": "New ones", "root": "memory://data/new"}
    refused = client.post("/api/datasets/", body)
    assert refused.status_code in (400, 403)
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    made = client.post("/api/datasets/", body)
    assert made.status_code == 202
    assert made.json()["dataset"] == "new-ones"
    outside = client.post("/api/datasets/", {"name": "Etc", "root": "/etc"})
    assert outside.status_code == 400
    again = client.post(f"{URL}registrations/")
    assert again.status_code == 202
    assert sent["registration"] == [made.json()["id"], again.json()["id"]]
    assert client.post(f"{URL}registrations/").status_code == 409


def test_a_checkpoint_outside_the_roots_or_missing_is_refused(
    dataset: Dataset, lena: User, api_of: ApiOf, model_root: Path
) -> None:
    client = api_of(lena)
    for checkpoint in ("/etc/passwd", str(model_root / "gone.onnx")):
        body = {"name": "resnet", "checkpoint": checkpoint}
        response = client.post(f"{URL}model-versions/", body)
        assert response.status_code == 400
        assert response.json()["detail"]
    assert not dataset.registered_models.exists()


def test_roles_are_kept(world: World, lena: User, rita: User, api_of: ApiOf) -> None:
    member = Membership.objects.get(user=rita)
    by_reviewer = [
        ("post", "scans/"),
        ("post", f"scans/{world.scan.pk}/cancel/"),
        ("post", "model-versions/"),
        ("post", "schedules/"),
        ("delete", "schedules/1/"),
    ]
    by_lead = [
        ("post", "registrations/"),
        ("post", "members/"),
        ("delete", f"members/{member.pk}/"),
        ("post", "fix-sets/"),
        ("post", "fix-sets/preview/"),
        ("post", "exports/"),
        ("get", "exports/1/download/"),
    ]
    for person, calls in ((rita, by_reviewer + by_lead), (lena, by_lead)):
        client = api_of(person)
        for method, path in calls:
            response = getattr(client, method)(URL + path)
            assert response.status_code == 403, path
            assert "This needs the role" in response.json()["detail"]


@pytest.mark.parametrize("body", [{"splitt": "train"}, {"filter": {"splitt": "train"}}])
def test_an_unknown_field_is_refused_not_ignored(api_of, world, alice, body):
    answer = api_of(alice).post("/api/datasets/animals/fix-sets/preview/", body)
    assert answer.status_code == 400
    assert "splitt" in answer.json()
