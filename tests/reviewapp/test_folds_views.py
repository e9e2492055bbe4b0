"""Pages of out-of-fold scans, and the mark on scans that are not."""

from __future__ import annotations

import pytest
from django.urls import reverse

from reviewapp.models import FoldRun, Role
from tests import factories


@pytest.fixture
def version(db):
    dataset = factories.DatasetFactory(slug="cells")
    for name in ("cat", "dog"):
        label = factories.LabelFactory(dataset=dataset, name=name)
        factories.SampleFactory(label=label, split="train")
    model = factories.RegisteredModelFactory(dataset=dataset, name="net")
    return factories.ModelVersionFactory(
        registered_model=model, format="safetensors", architecture="small_cnn"
    )


@pytest.fixture
def lead(client, version):
    user = factories.UserFactory()
    factories.MembershipFactory(
        user=user, dataset=version.registered_model.dataset, role=Role.LEAD
    )
    client.force_login(user)
    return client


def page(client, name: str, *args) -> str:
    return client.get(reverse(name, args=["cells", *args])).content.decode()


@pytest.fixture
def sent(monkeypatch):
    found = []
    monkeypatch.setattr("reviewapp.views.folds.enqueue_folds", found.append)
    return found


def test_a_lead_starts_a_run_from_the_page_of_scans(lead, version, sent):
    assert reverse("scan-folds-new", args=["cells"]) in page(lead, "scan-list")
    form = page(lead, "scan-folds-new")
    assert 'name="folds"' in form
    assert 'name="start"' not in form
    given = {"parent": version.pk, "folds": 3, "epochs": 7, "lr": "0.5"}
    response = lead.post(reverse("scan-folds-new", args=["cells"]), given)
    run = FoldRun.objects.get()
    assert response.url == reverse("scan-folds", args=["cells", run.pk])
    assert (run.folds, run.settings["epochs"], run.settings["lr"]) == (3, 7, 0.5)
    assert run.settings["start"] == "scratch"
    assert sent == [run]
    listed = page(lead, "scan-list")
    assert f"Out-of-fold run {run.pk}" in listed
    assert "3 models like net v1" in listed


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"folds": 1}, "greater than or equal to 2"), ({"lr": "0"}, "lr must be above 0")],
)
def test_a_refusal_stays_on_the_form(lead, version, sent, given, reason):
    asked = {"parent": version.pk, "folds": 5} | given
    response = lead.post(reverse("scan-folds-new", args=["cells"]), asked)
    assert reason in response.content.decode()
    assert not FoldRun.objects.exists()


def test_without_a_model_that_can_be_trained_the_page_says_so(lead, version):
    type(version).objects.update(format="onnx")
    assert "No model that can be trained" in page(lead, "scan-folds-new")


def test_the_page_of_a_run_is_live_and_says_how_it_ended(lead, version, sent):
    run = factories.FoldRunFactory(parent=version, state="running", worker="gpu:1")
    FoldRun.objects.update(
        progress={"fold": 2, "epoch": 3, "done": 5, "all": 10}, heartbeat_at=run.requested_at
    )  # fmt: skip
    shown = page(lead, "scan-folds", run.pk)
    assert "Fold 2 of 5, epoch 3 of 20 at most: 5 of 10 images (50.0 %)" in shown
    assert "every 2s" in shown
    url = reverse("scan-folds", args=["cells", run.pk])
    poll = lead.get(url, headers={"HX-Request": "true"})
    assert poll.status_code == 200
    assert "<html" not in poll.content.decode()
    lead.post(reverse("scan-folds-cancel", args=["cells", run.pk]))
    assert "Stopped by" in page(lead, "scan-folds", run.pk)
    last = lead.get(url, headers={"HX-Request": "true"})
    assert (last.status_code, last.headers["HX-Refresh"]) == (286, "true")
    lead.post(reverse("scan-folds-resume", args=["cells", run.pk]))
    assert "Waiting for a worker" in page(lead, "scan-folds", run.pk)
    assert sent == [run]
    scan = factories.ScanFactory(model_version=version, split="train", folds=5)
    FoldRun.objects.update(state="done", scan=scan, notes=["Fold 1: a note"])
    done = page(lead, "scan-folds", run.pk)
    assert reverse("scan-detail", args=["cells", scan.pk]) in done
    assert "Fold 1: a note" in done
    assert "Out-of-fold run" not in page(lead, "scan-list")


def test_a_reviewer_sees_a_run_and_cannot_touch_it(client, version):
    user = factories.UserFactory()
    dataset = version.registered_model.dataset
    factories.MembershipFactory(user=user, dataset=dataset, role=Role.REVIEWER)
    client.force_login(user)
    run = factories.FoldRunFactory(parent=version, state="failed", message="It broke.")
    shown = page(client, "scan-folds", run.pk)
    assert "It broke." in shown
    assert "Resume" not in shown
    for name in ("scan-folds-cancel", "scan-folds-resume"):
        assert client.post(reverse(name, args=["cells", run.pk])).status_code == 403
    assert client.get(reverse("scan-folds-new", args=["cells"])).status_code == 403


def test_every_scan_says_whether_its_model_had_seen_the_images(lead, version):
    known = factories.ScanFactory(model_version=version, covers_train=True)
    honest = factories.ScanFactory(model_version=version, covers_train=True, folds=5)
    other = factories.ScanFactory(model_version=version)
    for scan, mark in ((known, "in-sample"), (honest, "out-of-fold, 5"), (other, "")):
        shown = page(lead, "scan-detail", scan.pk)
        for word in ("in-sample", "out-of-fold, 5"):
            assert (f">{word}</span>" in shown) == (word == mark), (scan, word)
    listed = page(lead, "scan-list")
    assert listed.count(">in-sample</span>") == 1
    assert listed.count(">out-of-fold, 5</span>") == 1
