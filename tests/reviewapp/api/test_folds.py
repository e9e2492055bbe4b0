"""Out-of-fold scans over the API: started by a lead, seen by the team, by nobody else."""

from __future__ import annotations

import pytest

from reviewapp.models import Event, FoldRun
from tests import factories

URL = "/api/datasets/animals/out-of-fold/"


@pytest.fixture
def net(world, labels):
    """A version that can be trained; nothing here opens its file."""
    factories.SampleFactory(label=labels[0], split="train")
    return factories.ModelVersionFactory(
        registered_model=world.model,
        format="safetensors",
        architecture="small_cnn",
        checkpoint="memory://models/2.safetensors",
    )


@pytest.fixture(autouse=True)
def sent(monkeypatch):
    found: list[FoldRun] = []
    monkeypatch.setattr("reviewapp.api.folds.enqueue_folds", found.append)
    return found


def test_a_lead_starts_stops_and_resumes_one(net, lena, rita, api_of, sent):
    client = api_of(lena)
    body = {"parent": net.pk, "folds": 3, "settings": {"epochs": 7, "start": "parent"}}
    answer = client.post(URL, body)
    run = FoldRun.objects.get()
    assert (answer.status_code, answer.json()["id"]) == (202, run.pk)
    assert (run.parent, run.folds, run.requested_by) == (net, 3, lena)
    assert (run.settings["epochs"], run.settings["start"]) == (7, "scratch")
    assert sent == [run]
    assert client.post(f"{URL}{run.pk}/cancel/").json()["state"] == "cancelled"
    again = client.post(f"{URL}{run.pk}/cancel/")
    assert (again.status_code, again.json()["detail"]) == (
        400,
        f"Out-of-fold run {run.pk} is cancelled already.",
    )
    resumed = client.post(f"{URL}{run.pk}/resume/")
    assert (resumed.status_code, resumed.json()["state"]) == (202, "queued")
    assert sent == [run, run]
    told = Event.objects.filter(action__startswith="out-of-fold").order_by("id")
    assert [event.action.rpartition(" ")[2] for event in told] == [
        "started",
        "cancelled",
        "resumed",
    ]

    scan = factories.ScanFactory(model_version=net, split="train", folds=3)
    FoldRun.objects.update(state="done", scan=scan, notes=["Fold 1: a note"])
    newer = factories.FoldRunFactory(parent=net)
    listed = api_of(rita).get(URL).json()["results"]
    assert [row["id"] for row in listed] == [newer.pk, run.pk]
    done = api_of(rita).get(f"{URL}{run.pk}/").json()
    assert done == listed[1]
    assert (done["scan"], done["notes"], done["requested_by"]) == (
        scan.pk,
        ["Fold 1: a note"],
        "lena",
    )
    assert listed[0]["scan"] is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"folds": 1}, "greater than or equal to 2"),
        ({"folds": 21}, "less than or equal to 20"),
        ({"settings": {"epochs": -1}}, "Training settings: epochs"),
        ({"settings": {"epoch": 1}}, "unknown fields: epoch"),
        ({"split": "val"}, "There is no such field here"),
        ({"parent": None}, "may not be null"),
    ],
)
def test_what_cannot_be_is_refused_by_name(net, lena, api_of, sent, wrong, said):
    answer = api_of(lena).post(URL, {"parent": net.pk} | wrong)
    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert not FoldRun.objects.exists()
    assert sent == []


def test_only_a_lead_starts_one_and_nobody_sees_another_teams(
    net, rita, lena, charlie, api_of, sent
):
    run = factories.FoldRunFactory(parent=net, state="failed")
    body = {"parent": net.pk}
    reviewer, other = api_of(rita), api_of(charlie)
    assert reviewer.get(f"{URL}{run.pk}/").status_code == 200
    for route in ("", f"{run.pk}/cancel/", f"{run.pk}/resume/"):
        assert reviewer.post(f"{URL}{route}", body).status_code == 403
        assert other.post(f"{URL}{route}", body).status_code == 404
    for route in ("", f"{run.pk}/"):
        assert other.get(f"{URL}{route}").status_code == 404
    theirs = "/api/datasets/other/out-of-fold/"
    assert other.get(theirs).json()["results"] == []
    assert other.get(f"{theirs}{run.pk}/").status_code == 404
    stranger = factories.ModelVersionFactory(format="safetensors")
    assert api_of(lena).post(URL, {"parent": stranger.pk}).status_code == 404
    run.refresh_from_db()
    assert (run.state, FoldRun.objects.count(), sent) == ("failed", 1, [])
