"""Scans: the list, starting, watching and stopping them, and schedules."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from mining.types import ScanSettings
from reviewapp.models import Scan, Schedule, Shard
from tests import factories

HTMX = {"HX-Request": "true"}
LIST = reverse("scan-list", args=["animals"])
NEW = reverse("scan-new", args=["animals"])
SCHEDULES = reverse("schedule-list", args=["animals"])


def page_of(scan: Scan, name: str = "scan-detail") -> str:
    return reverse(name, args=["animals", scan.pk])


@pytest.fixture
def samples(labels):
    return [factories.SampleFactory(label=labels[n % 3]) for n in range(6)]


@pytest.fixture
def running(version, labels, samples):
    """A scan of 6 samples that ran for 10 s and has done 4."""
    scan = factories.ScanFactory(
        model_version=version,
        state=Scan.State.RUNNING,
        samples=6,
        correct=None,
        errors=None,
        near_misses=None,
        unreadable=None,
        started_at=timezone.now() - timedelta(seconds=10),
    )
    for n, (state, done) in enumerate([("done", 3), ("running", 1)]):
        factories.ShardFactory(
            scan=scan,
            number=n,
            samples=3,
            samples_done=done,
            state=state,
            correct=done if state == "done" else 0,
        )
    return scan


def queries(client, address) -> int:
    with CaptureQueriesContext(connection) as found:
        assert client.get(address).status_code == 200
    return len(found)


def test_more_scans_cost_no_more_queries(world, rita, client_of):
    client = client_of(rita)
    before = queries(client, LIST)
    for _ in range(28):
        factories.ScanFactory(model_version=world.scan.model_version, correct=1)
    # session, user, data set, scans, role, out-of-fold runs
    assert before == queries(client, LIST) == 6


def test_the_list_is_paged_without_a_gap(world, rita, client_of):
    for _ in range(40):
        factories.ScanFactory(model_version=world.scan.model_version, correct=1)
    client = client_of(rita)
    first = client.get(LIST)
    second = client.get(LIST, {"after": first.context["page"].next})
    shown = [scan.pk for page in (first, second) for scan in page.context["page"].rows]
    assert shown == sorted(shown, reverse=True)
    assert len(shown) == 41
    forged = client.get(LIST, {"after": "forged"})
    assert forged.status_code == 400


def test_the_list_is_filtered_by_state(world, running, rita, client_of):
    response = client_of(rita).get(LIST, {"state": "running"})
    assert response.context["page"].rows == [running]
    nothing = client_of(rita).get(LIST, {"state": "failed"}).content.decode()
    assert "No scan is in this state" in nothing


def test_a_running_scan_is_live(running, rita, client_of):
    client = client_of(rita)
    page = client.get(page_of(running)).content.decode()
    assert 'max="6" value="4"' in page
    assert "4 of 6 images (66.7 %)" in page
    assert "1 done" in page
    assert "1 running" in page
    assert 'hx-trigger="every 1s"' in page
    fragment = client.get(page_of(running), headers=HTMX)
    assert fragment.status_code == 200
    assert b"<html" not in fragment.content


def test_the_last_poll_stops_and_loads_the_page_anew(world, rita, client_of):
    response = client_of(rita).get(page_of(world.scan), headers=HTMX)
    assert response.status_code == 286  # htmx stops polling
    assert response.headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in response.content.decode()


def test_a_finished_scan_shows_its_facts(world, rita, client_of):
    client = client_of(rita)
    html = client.get(page_of(world.scan)).content.decode()
    assert "7 of 10 right" in html
    assert "3 errors (30.0 %) in 10 images" in html
    assert "near_miss_below" in html
    before = queries(client, page_of(world.scan))
    for n, label in enumerate(world.labels):
        factories.ConfusionCountFactory(
            scan=world.scan,
            true_label=world.labels[2],
            predicted_label=label,
            count=n + 1,
        )
    # session, user, data set, scan, shards by state, workers, paces, troubled shards,
    # role, confusions, reasons
    assert before == queries(client, page_of(world.scan)) == 11


def test_a_scan_for_the_record_offers_no_review(world, rita, client_of):
    client = client_of(rita)
    one_pair = reverse("review-next", args=["animals"])
    every_error = (
        f'class="btn btn--primary" href="{reverse("review", args=["animals"])}"'
    )
    for for_record in (False, True):
        Scan.objects.filter(pk=world.scan.pk).update(for_record=for_record)
        html = client.get(page_of(world.scan)).text
        assert "3 errors (30.0 %) in 10 images" in html
        assert (one_pair in html, every_error in html) == (not for_record,) * 2


def test_a_failed_scan_shows_why(version, rita, client_of):
    scan = factories.ScanFactory(
        model_version=version,
        state=Scan.State.FAILED,
        samples=3,
        message="a <bad> file",
    )
    factories.ShardFactory(
        scan=scan,
        samples=3,
        state=Shard.State.QUARANTINED,
        attempts=4,
        failures=3,
        losses=1,
        message="no <memory>",
    )
    html = client_of(rita).get(page_of(scan)).content.decode()
    assert "a &lt;bad&gt; file" in html
    assert "Failed 3 times, lost 1 time, attempt 4: no &lt;memory&gt;" in html


def test_a_lead_starts_a_scan(
    version, samples, lena, client_of, django_capture_on_commit_callbacks
):
    client = client_of(lena)
    page = client.get(NEW, {"version": version.pk, "split": "test"}).content.decode()
    assert f'value="{version.pk}" selected' in page
    sent = {
        "version": version.pk,
        "split": "test",
        "batch_size": 8,
        "near_miss_below": 0.5,
        "precision": "float32",
        "workers": "",
    }
    with django_capture_on_commit_callbacks() as callbacks:
        response = client.post(NEW, sent)
    scan = Scan.objects.get()
    assert response.url == page_of(scan)
    assert len(callbacks) == scan.shards.count() == 1
    assert scan.samples == 6
    assert scan.requested_by == lena
    assert scan.trigger == Scan.Trigger.PAGE
    assert scan.settings["near_miss_below"] == 0.5
    assert scan.settings["batch_size"] == 8
    assert scan.settings["precision"] == "float32"
    assert scan.settings["workers"] == 0
    # The same again while it runs is refused, and what was typed stays.
    again = client.post(NEW, sent)
    assert f"Scan {scan.pk} of resnet v1 on Animals is still queued" in (
        again.content.decode()
    )
    assert 'value="8"' in again.content.decode()
    assert Scan.objects.count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch_size", "0"),
        ("near_miss_below", "1.1"),
        ("near_miss_below", "nan"),
        ("precision", "float8"),
        ("device", "tpu"),
        ("decode", "disk"),
        ("workers", "257"),
        ("workers", "-1"),
        ("shard_size", "0"),
        ("split", "holdout"),
        ("version", "0"),
    ],
)
def test_a_setting_out_of_range_starts_nothing(
    version, samples, lena, client_of, field, value
):
    sent = {
        "version": version.pk,
        "split": "",
        "batch_size": 8,
        "near_miss_below": 0.5,
        "precision": "auto",
    }
    response = client_of(lena).post(NEW, sent | {field: value})
    assert response.status_code == 200
    html = response.content.decode()
    assert "errorlist" in html
    assert ("<details open>" in html) == (field not in ("split", "version"))
    assert not Scan.objects.exists()


def test_settings_left_alone_take_their_defaults(version, samples, lena, client_of):
    sent = {"version": version.pk, "split": "", "shard_size": 2, "compile": "on"}
    client_of(lena).post(NEW, sent)
    scan = Scan.objects.get()
    chosen = {"shard_size": 2, "compile": True}
    assert scan.settings == ScanSettings().to_dict() | chosen
    assert scan.shards.count() == 3


def test_predictions_made_elsewhere_cannot_be_scanned_again(
    version, samples, lena, client_of
):
    version.format = version.Format.PREDICTIONS
    version.save(update_fields=["format"])
    assert "No model to scan with" in client_of(lena).get(NEW).content.decode()
    client_of(lena).post(NEW, {"version": version.pk})
    assert not Scan.objects.exists()


def test_a_version_of_another_data_set_cannot_be_scanned(
    version, samples, lena, client_of
):
    foreign = factories.ModelVersionFactory()
    sent = {
        "version": foreign.pk,
        "split": "",
        "batch_size": 8,
        "near_miss_below": 0.5,
        "precision": "auto",
    }
    html = client_of(lena).post(NEW, sent).content.decode()
    assert "Select a valid choice" in html
    assert not Scan.objects.exists()


def test_only_leads_start_and_stop(running, rita, lena, charlie, client_of):
    cancel = page_of(running, "scan-cancel")
    for address in (NEW, cancel, page_of(running, "scan-resume")):
        assert client_of(rita).post(address).status_code == 403
        assert client_of(charlie).post(address).status_code == 404
    running.refresh_from_db()
    assert running.state == Scan.State.RUNNING
    assert client_of(lena).get(cancel).status_code == 405
    assert client_of(lena).post(cancel).url == page_of(running)
    running.refresh_from_db()
    assert running.state == Scan.State.CANCELLED
    assert "Cancelled by lena" in client_of(rita).get(page_of(running)).content.decode()
    late = client_of(lena).post(cancel)
    assert late.status_code == 400
    assert "cancelled already" in late.content.decode()


def test_a_scan_of_another_data_set_is_not_there(world, rita, charlie, client_of):
    foreign = factories.ScanFactory()
    for name in ("scan-detail", "scan-outcomes", "scan-parts", "scan-unreadable"):
        assert client_of(rita).get(page_of(foreign, name)).status_code == 404
        assert client_of(charlie).get(page_of(world.scan, name)).status_code == 404


def test_the_outcomes_are_sent_as_a_file(world, rita, client_of):
    client = client_of(rita)
    assert client.get(page_of(world.scan, "scan-outcomes")).status_code == 404
    name = f"scans/{world.scan.pk}/outcomes.parquet"
    default_storage.save(name, ContentFile(b"PAR1 rows PAR1"))
    world.scan.artefact = name
    world.scan.save(update_fields=["artefact"])
    response = client.get(page_of(world.scan, "scan-outcomes"))
    assert b"".join(response) == b"PAR1 rows PAR1"
    disposition = response.headers["Content-Disposition"]
    assert disposition == (
        f'attachment; filename="animals-scan-{world.scan.pk}-outcomes.parquet"'
    )
    default_storage.delete(name)
    for put_in_its_place in (lambda: None, Path(default_storage.path(name)).mkdir):
        put_in_its_place()
        gone = client.get(page_of(world.scan, "scan-outcomes"))
        assert gone.status_code == 404
        assert "cannot be read from the storage" in gone.content.decode()


def test_a_lead_schedules_changes_and_removes(registered_model, lena, rita, client_of):
    client = client_of(lena)
    sent = {"model": registered_model.pk, "split": "test", "cron": "0 2 * * *"}
    assert client.post(SCHEDULES, sent).url == SCHEDULES
    assert client.post(SCHEDULES, sent | {"cron": "30 6 * * 1"}).url == SCHEDULES
    schedule = Schedule.objects.get()
    assert schedule.cron == "30 6 * * 1"
    page = client_of(rita).get(SCHEDULES).content.decode()
    assert "At 06:30 AM, only on Monday" in page
    assert "has not run yet" in page
    assert re.search(r"<time[^>]*>\d{4}-\d\d-\d\d 06:30</time>", page)
    assert client_of(rita).post(SCHEDULES, {"remove": schedule.pk}).status_code == 403
    assert client.post(SCHEDULES, {"remove": schedule.pk}).url == SCHEDULES
    assert not Schedule.objects.exists()
    assert not PeriodicTask.objects.filter(name__startswith="scan schedule").exists()


def test_a_cron_line_that_cannot_be_read_is_kept_and_explained(
    registered_model, lena, client_of
):
    sent = {"model": registered_model.pk, "split": "", "cron": "every night"}
    html = client_of(lena).post(SCHEDULES, sent).content.decode()
    assert "every night" in html
    assert "cannot be used" in html
    assert not Schedule.objects.exists()


def test_the_next_run_is_the_next_time_of_the_cron_line(
    registered_model, lena, client_of
):
    sent = {"model": registered_model.pk, "split": "", "cron": "0 2 * * *"}
    client_of(lena).post(SCHEDULES, sent)
    schedule = Schedule.objects.get()
    now = timezone.now()
    expected = now.replace(hour=2, minute=0, second=0, microsecond=0)
    expected += timedelta(days=expected <= now)
    next_run = schedule.next_run()
    assert next_run is not None
    assert next_run == expected
    schedule.enabled = False
    assert schedule.next_run() is None


def test_a_schedule_of_another_data_set_cannot_be_removed(dataset, lena, client_of):
    foreign = factories.ScheduleFactory()
    client = client_of(lena)
    for chosen in (foreign.pk, "x", "²", "9" * 40, "9" * 5000):
        assert client.post(SCHEDULES, {"remove": chosen}).status_code == 404
    assert Schedule.objects.exists()


def test_more_schedules_cost_no_more_queries(
    dataset, registered_model, lena, client_of
):
    client = client_of(lena)
    sent = {"model": registered_model.pk, "split": "", "cron": "0 2 * * *"}
    client.post(SCHEDULES, sent)
    before = queries(client, SCHEDULES)
    for _ in range(29):
        model = factories.RegisteredModelFactory(dataset=dataset)
        client.post(SCHEDULES, sent | {"model": model.pk})
    # session, user, data set, role, models?, schedules, and the choice of models
    # twice: Django's select reads them once for its `required` alone
    assert before == queries(client, SCHEDULES) == 8
