"""The pages and the API of training runs."""

from __future__ import annotations

import pytest

from mining.training.settings import TrainSettings
from reviewapp.curves import HEIGHT, WIDTH, loss_chart
from reviewapp.models import Recipe, TrainingRun
from tests import factories, schooling

BASE = "/datasets/animals/training/"
API = "/api/datasets/animals/training/"


@pytest.fixture(autouse=True)
def sent_(sent):
    return sent


@pytest.fixture
def net(registered_model, labels):
    """A version that can be trained; nothing here opens its file."""
    for split in ("train", "test"):
        factories.SampleFactory(label=labels[0], split=split, key=f"{split}/1.png")
    return factories.ModelVersionFactory(
        registered_model=registered_model,
        format="safetensors",
        architecture="small_cnn",
        checkpoint="memory://models/1.safetensors",
    )


@pytest.fixture
def recipe(dataset, alice) -> Recipe:
    return schooling.add_recipe_row(dataset, alice)


def figures(epoch: int, train: float, val: float | None) -> dict[str, object]:
    return {
        "epoch": epoch,
        "train_loss": train,
        "val_loss": val,
        "val_accuracy": None if val is None else 0.875,
        "seconds": 65.0,
    }


@pytest.fixture
def running(net, recipe) -> TrainingRun:
    return factories.TrainingRunFactory(
        parent=net,
        recipe=recipe,
        state="running",
        worker="host:17",
        attempts=2,
        started_at=recipe.created_at,
        heartbeat_at=recipe.created_at,
        progress={"epoch": 2, "done": 400, "all": 1000, "rate": 100.0},
        epochs=[figures(1, 1.5, 1.25)],
    )


def test_a_lead_starts_a_run_with_its_control_from_the_page_of_a_fix_set(
    net, recipe, lena, client_of, sent, django_capture_on_commit_callbacks
):
    client = client_of(lena)
    page = client.get(f"{BASE}new/?fix_set={recipe.fix_set_id}&parent={net.pk}")
    text = page.content.decode()
    assert "night: 240 hard, 3 corrected, 1 drop" in text
    initial = page.context["form"].initial
    assert (initial["recipe"], initial["parent"]) == (recipe.pk, net.pk)
    form = {
        "parent": net.pk,
        "recipe": recipe.pk,
        "scan_split": "test",
        "with_control": "on",
        "epochs": "4",
        "lr": "",
        "rest": "no",
        "loss": "focal",
    }
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(f"{BASE}new/", form)
    run = TrainingRun.objects.get(recipe=recipe)
    control = run.controls.get()
    assert answer.headers["Location"] == f"{BASE}{run.pk}/"
    assert sent == [("run_training", run.pk), ("run_training", control.pk)]
    chosen = {"epochs": 4, "loss": "focal", "rest": False}
    assert run.settings == TrainSettings(**chosen).to_dict()
    assert (run.requested_by, run.scan_split) == (lena, "test")
    assert (control.recipe, control.settings) == (None, run.settings)


def test_the_form_begins_with_the_newest_version_of_the_model_that_was_reviewed(
    net, recipe, dataset, lena, client_of
):
    newer, control, other = (
        factories.ModelVersionFactory(
            registered_model=model, format="safetensors", checkpoint=f"memory://{n}"
        )
        for n, model in enumerate(
            [
                net.registered_model,
                factories.RegisteredModelFactory(dataset=dataset, name="net control"),
                factories.RegisteredModelFactory(dataset=dataset, name="other"),
            ]
        )
    )
    run = factories.TrainingRunFactory(parent=net, state="done", version=newer)
    ours = Recipe.objects.create(
        fix_set=recipe.fix_set,
        settings={},
        state="done",
        digest="ef" * 32,
        summary={"sources": {"model": net.digest}},
    )
    client = client_of(lena)

    def begins_with(query: str) -> int:
        return client.get(f"{BASE}new/?{query}").context["form"].initial["parent"]

    assert begins_with(f"recipe={ours.pk}") == newer.pk
    assert begins_with(f"recipe={recipe.pk}") == other.pk  # it names no model
    factories.TrainingRunFactory(
        parent=net, state="done", control_of=run, version=other
    )
    assert begins_with(f"recipe={recipe.pk}") == control.pk  # a control in name only


def test_what_is_wrong_is_said_at_the_form(net, recipe, lena, client_of):
    client = client_of(lena)
    wrong = client.post(f"{BASE}new/", {"parent": net.pk, "epochs": "0"})
    assert "greater than or equal to 1" in wrong.content.decode()
    refused = client.post(f"{BASE}new/", {"parent": net.pk, "scan_split": "val"})
    assert "has no samples in the split val" in refused.content.decode()
    assert not TrainingRun.objects.exists()


def test_without_a_version_that_can_be_trained_the_page_says_so(
    version, lena, client_of
):
    text = client_of(lena).get(f"{BASE}new/").content.decode()
    assert "No version that can be trained" in text


def test_a_reviewer_sees_runs_and_starts_stops_and_resumes_none(
    running, rita, client_of
):
    client = client_of(rita)
    text = client.get(BASE).content.decode()
    assert f'href="{BASE}{running.pk}/"' in text
    assert "Retrain" not in text
    page = client.get(f"{BASE}{running.pk}/").content.decode()
    assert "Stop the training" not in page
    for act in ("new/", f"{running.pk}/cancel/", f"{running.pk}/resume/"):
        assert client.post(f"{BASE}{act}").status_code == 403
    running.refresh_from_db()
    assert running.state == "running"


def test_a_running_one_shows_how_far_it_is_and_its_losses(running, lena, client_of):
    text = client_of(lena).get(f"{BASE}{running.pk}/").content.decode()
    assert "Epoch 2 of 20 at most: 400 of 1,000 images (40.0 %)" in text
    # 600 images and 18 epochs of 1,000.
    assert "100.0 images/s, 3 min 6 s left at most" in text
    assert "Worker host:17" in text
    assert "attempt 2" in text
    assert "train loss 1.5, val loss 1.25" not in text
    assert "Loss over epochs 1 to 1, at last: train loss 1.5; val loss 1.25" in text
    assert 'hx-trigger="every 2s"' in text


def test_the_poll_of_one_that_ended_loads_the_page_anew(running, lena, client_of):
    client = client_of(lena)
    url = f"{BASE}{running.pk}/"
    fragment = client.get(url, headers={"HX-Request": "true"})
    assert fragment.status_code == 200
    assert b"<html" not in fragment.content
    TrainingRun.objects.update(state="failed", message="the disk is full")
    ended = client.get(url, headers={"HX-Request": "true"})
    assert (ended.status_code, ended.headers["HX-Refresh"]) == (286, "true")


def test_a_failed_run_says_why_and_is_resumed(
    running, lena, client_of, sent, django_capture_on_commit_callbacks
):
    TrainingRun.objects.update(state="failed", message="the disk is full")
    client = client_of(lena)
    assert "the disk is full" in client.get(f"{BASE}{running.pk}/").content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        client.post(f"{BASE}{running.pk}/resume/")
    running.refresh_from_db()
    assert running.state == "queued"
    assert sent == [("run_training", running.pk)]
    client.post(f"{BASE}{running.pk}/cancel/")
    running.refresh_from_db()
    assert (running.state, running.message[:15]) == ("cancelled", "Stopped by lena")


def test_a_control_is_stopped_with_its_run_and_the_page_says_so(
    running, lena, client_of
):
    control = factories.TrainingRunFactory(parent=running.parent, control_of=running)
    client = client_of(lena)
    url = f"{BASE}{running.pk}/"
    assert "Stop the training and its control</button>" in client.get(url).text
    said = client.post(f"{url}cancel/", follow=True).text
    assert f"Its control, training run {control.pk}, is stopped and resumed" in said
    control.refresh_from_db()
    assert control.state == "cancelled"
    client.post(f"{url}resume/")
    client.post(f"{BASE}{control.pk}/cancel/")
    assert "Stop the training</button>" in client.get(url).text


def test_a_done_run_leads_to_its_version_and_its_scan(
    running, version, lena, client_of
):
    scan = factories.ScanFactory(model_version=version, correct=7, errors=1)
    before = factories.ScanFactory(model_version=running.parent, correct=6, errors=2)
    TrainingRun.objects.update(
        state="done",
        version=version,
        verifying_scan=scan,
        outcome={
            "best_epoch": 1,
            "device": "cpu",
            "samples": 31,
            "val_samples": 12,
            "stopped_early": True,
            "notes": ["1 image"],
        },
    )
    client = client_of(lena)
    text = client.get(f"{BASE}{running.pk}/").content.decode()
    models = (
        f"/datasets/animals/models/{version.registered_model_id}/#v{version.number}"
    )
    assert models in text
    assert f"/datasets/animals/scans/{scan.pk}/" in text
    assert f"/datasets/animals/compare/{before.pk}/{scan.pk}/" in text
    assert "The weights of epoch 1 were kept" in text
    assert "1 image" in text
    assert "87.5 %" in client.get(BASE).content.decode()


def test_the_model_page_shows_what_a_version_follows_from(net, lena, client_of):
    run = factories.TrainingRunFactory(parent=net, state="done")
    net.lineage = {
        "run": run.pk,
        "parent": "aa" * 32,
        "parent_version": 1,
        "recipe": "bb" * 32,
        "dataset": "cc" * 32,
        "fix_set": "",
        "settings": {},
        "control": False,
    }
    net.save()
    url = f"/datasets/animals/models/{net.registered_model_id}/"
    text = client_of(lena).get(url).content.decode()
    for digest in ("aa", "bb", "cc"):
        assert digest * 32 in text
    assert f'href="{BASE}{run.pk}/"' in text


def test_lists_take_the_same_queries_for_many(
    net, recipe, lena, client_of, django_assert_num_queries
):
    client = client_of(lena)
    for n in (1, 9):
        for _ in range(n):
            run = factories.TrainingRunFactory(
                parent=net, recipe=recipe, requested_by=lena
            )
            factories.TrainingRunFactory(parent=net, control_of=run)
        # Session, person, data set, role; the runs.
        with django_assert_num_queries(5):
            assert client.get(BASE).status_code == 200


# --- the API --------------------------------------------------------------------------


def test_the_api_starts_cancels_and_resumes(
    net, recipe, lena, client_of, sent, django_capture_on_commit_callbacks
):
    client = client_of(lena)
    body = {
        "parent": net.pk,
        "recipe": recipe.pk,
        "settings": {"epochs": 5, "seed": 3},
        "with_control": True,
    }
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(API, body, content_type="application/json")
    assert answer.status_code == 202
    run = TrainingRun.objects.get(pk=answer.json()["id"])
    assert answer.json()["settings"]["epochs"] == 5
    assert [task for task, _ in sent] == ["run_training"] * 2
    one = client.get(f"{API}{run.pk}/").json()
    assert (one["state"], one["recipe"], one["epochs"]) == ("queued", recipe.pk, [])
    assert client.post(f"{API}{run.pk}/cancel/").json()["state"] == "cancelled"
    assert client.post(f"{API}{run.pk}/cancel/").status_code == 400
    assert client.post(f"{API}{run.pk}/resume/").status_code == 202
    assert [row["id"] for row in client.get(API).json()["results"]] == [
        run.pk + 1,
        run.pk,
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"settings": {"epochs": -1}}, "Training settings: epochs"),
        ({"settings": {"epoch": 1}}, "unknown fields: epoch"),
        ({"settings": []}, "Expected a dictionary"),
        ({"scan_split": "all"}, "not a valid choice"),
        ({"recipe": None, "with_control": True}, "Only a recipe has a control"),
    ],
)
def test_the_api_says_what_is_wrong(net, recipe, lena, client_of, wrong, said):
    body = {"parent": net.pk, "recipe": recipe.pk} | wrong
    answer = client_of(lena).post(API, body, content_type="application/json")
    assert answer.status_code == 400
    assert said in answer.content.decode()
    assert not TrainingRun.objects.exists()


def test_the_api_takes_nothing_of_another_data_set(
    net, recipe, lena, rita, client_of, staff
):
    other = factories.ModelVersionFactory(format="safetensors")
    theirs = schooling.add_recipe_row(other.registered_model.dataset, staff)
    client = client_of(lena)
    for body in ({"parent": other.pk}, {"parent": net.pk, "recipe": theirs.pk}):
        answer = client.post(API, body, content_type="application/json")
        assert answer.status_code == 404
    mine = {"parent": net.pk}
    refused = client_of(rita).post(API, mine, content_type="application/json")
    assert refused.status_code == 403


# --- the curve ------------------------------------------------------------------------


def test_the_curve_has_the_highest_loss_at_the_top_and_the_last_epoch_at_the_right():
    epochs = [figures(1, 2.0, 1.5), figures(2, 1.0, 1.75), figures(3, 0.5, 1.0)]
    chart = loss_chart(epochs)
    train, val = chart.curves
    assert train.points == f"0.0,0.0 {WIDTH / 2},{2 * HEIGHT / 3:.1f} {WIDTH},{HEIGHT}"
    assert val.points.startswith(f"0.0,{HEIGHT / 3:.1f} ")
    assert (chart.low, chart.high, train.last, val.last) == (0.5, 2.0, 0.5, 1.0)


def test_the_curve_of_one_epoch_without_a_val_split_is_a_point():
    chart = loss_chart([figures(4, 2.0, None)])
    (train,) = chart.curves
    assert train.points == f"{WIDTH / 2},{HEIGHT / 2}"
    assert loss_chart([]) is None
