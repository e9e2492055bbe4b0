"""Reports say what the scans of a training run show, once they are all done."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from mining.recipe import Recipe, RecipeSample
from mining.statistics import paired_difference
from reviewapp import tasks
from reviewapp.actions.reports import (
    report_new_runs,
    requeue_silent_reports,
    run_report,
    start_report,
)
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Event,
    Finding,
    Notice,
    Report,
    Sample,
    Scan,
    TrainingRun,
)
from reviewapp.proving import waits_for
from tests import factories
from tests.comparing import lose
from tests.reporting import Told, add_run, tell

TRUE = "c" * 30 + "d" * 20
BEFORE = "c" * 15 + "d" * 15 + "d" * 20
AFTER = "c" * 29 + "d" * 1 + "d" * 19 + "f" * 1
CONTROL = "c" * 20 + "d" * 10 + "d" * 20


@pytest.fixture
def told(version, labels, rita) -> Told:
    return tell(
        version,
        labels,
        rita,
        true=TRUE,
        before=BEFORE,
        after=AFTER,
        control=CONTROL,
        fixes="cd cd cd dc",
    )


def made(told: Told) -> Report:
    return run_report(report=start_report(run=told.run, by=None))


def figures(told: Told) -> dict:
    report = made(told)
    assert report.state == "done", report.message
    return report.figures


def test_it_claims_the_gain_and_says_what_the_control_explains(told) -> None:
    found = figures(told)
    assert found["claim"]["verdict"] == "gain"
    assert found["claim"]["text"] == (
        "A gain: on 50 images that nobody reviewed or trained on, accuracy rose from "
        "70.0 % to 96.0 %, +26.0 points (95 % interval +12.8 to +40.2), p = 0.00098."
    )
    assert found["claim"]["control"].startswith(
        "The control, with samples drawn at random, explains 38 % of it ("
    )
    assert (
        "The retrained model is better than the control: +16.0"
        in (found["claim"]["control"])
    )
    untouched = found["labels"]["corrected"]["untouched"]
    expected = paired_difference(14, 1, 50)
    assert untouched["difference"]["value"] == expected.difference
    assert untouched["difference"]["low"] == expected.interval.low
    assert [row[:4] for row in untouched["claimed"]] == [
        ["cat", "dog", 15, 1],
        ["dog", "cat", 0, 0],
    ]
    assert [row[:4] for row in untouched["others"]] == [["dog", "fox", 0, 1]]
    assert found["control"]["accuracy"] == 0.8
    assert found["scans"]["before"] == told.before.pk
    assert found["fix_set"]["name"] == "night shift"
    assert "reviewed" not in found["labels"]["corrected"]


def test_the_credit_goes_to_confusions_and_causes(told) -> None:
    found = figures(told)
    credit = found["credit"]
    first, second = credit["confusions"]
    assert (first["label"], first["mistaken_for"], first["findings"]) == (
        "cat",
        "dog",
        3,
    )
    assert (first["bought"], first["control"], first["over"]) == (14, 5, 9)
    minutes = 3 * found["seconds_per_verdict"] / 60
    assert first["minutes"] == pytest.approx(minutes)
    assert first["per_finding"] == pytest.approx(14 / 3)
    assert first["per_minute"] == pytest.approx(14 / minutes)
    assert (second["label"], second["bought"]) == ("dog", 0)
    assert credit["elsewhere"] == -1
    (cause,) = credit["causes"]
    assert (cause["cause"], cause["findings"], cause["bought"]) == ("pose", 4, 14)


def test_what_was_reviewed_or_trained_on_is_kept_apart(told, version, labels) -> None:
    reviewed, copied, looked_at = told.tested[20], told.tested[21], told.tested[0]
    factories.FindingFactory(
        sample=reviewed,
        predicted_label=labels[1],
        registered_model=version.registered_model,
        review_state=Finding.ReviewState.DISMISSED,
    )
    twin = factories.SampleFactory(label=labels[0], split="train")
    Sample.objects.filter(pk=twin.pk).update(digest=copied.digest)
    factories.SampleFactory(label=labels[0], split="val", digest=looked_at.digest)
    found = figures(told)
    assert found["seen"] == {"reviewed": 1, "trained": 2, "both": 0, "copies": 2}
    sizes = {
        name: part["samples"] for name, part in found["labels"]["corrected"].items()
    }
    assert sizes == {"untouched": 47, "reviewed": 1, "whole": 50}


def test_what_an_earlier_version_learned_is_not_untouched(told, version) -> None:
    sample = told.tested[3]
    line = RecipeSample(sample.key, sample.digest, "cat", "cat", "easy")
    dropped = told.tested[4]
    drop = RecipeSample(dropped.key, dropped.digest, "cat", "cat", "drop")
    content = Recipe(samples=(line, drop)).to_json()
    add_run(version, version=version, content=content)
    assert figures(told)["seen"]["trained"] == 1


def test_corrected_and_original_labels_are_both_there(told, labels) -> None:
    sample = told.tested[49]  # a dog that the new model takes for a fox
    Sample.objects.filter(pk=sample.pk).update(label=labels[2])
    found = figures(told)
    assert found["relabelled"] == 1
    right = {
        kind: parts["whole"]["candidate"]["right"]
        for kind, parts in found["labels"].items()
    }
    assert right == {"corrected": 49, "original": 48}


def test_a_wrong_label_is_credited_where_it_did_harm(version, labels, rita) -> None:
    told = tell(version, labels, rita, true="cd", before="dd", after="cd", fixes="cd!")
    (row,) = figures(told)["credit"]["confusions"]
    assert (row["label"], row["mistaken_for"], row["bought"]) == ("cat", "dog", 1)
    assert row["control"] is None


def test_a_near_miss_and_what_the_recipe_left_out_are_no_fixes(
    version, labels, rita
) -> None:
    fixes = "cd- dd fc"
    told = tell(version, labels, rita, true="cd", before="dd", after="cd", fixes=fixes)
    (row,) = figures(told)["credit"]["confusions"]
    assert (row["label"], row["mistaken_for"]) == ("fox", "cat")


def test_without_a_gain_it_says_so_and_how_many_images_it_would_take(
    version, labels, rita
) -> None:
    told = tell(
        version,
        labels,
        rita,
        true="ccccdddd",
        before="cccddddd",
        after="c" * 4 + "d" * 4,
    )
    found = figures(told)
    assert found["claim"]["verdict"] == "none"
    assert found["claim"]["text"].startswith("No gain shown: on 8 images")
    assert (
        "to show one of this size would take about 61 images."
        in (found["claim"]["text"])
    )
    assert (found["control"], found["credit"]) == (None, None)


def test_a_loss_is_called_a_loss_and_nothing_untouched_nothing(
    version, labels, rita
) -> None:
    there = tell(version, labels, rita, true=TRUE, before=AFTER, after=BEFORE)
    assert figures(there)["claim"]["text"].startswith("A loss: on 50 images")
    model = factories.RegisteredModelFactory(dataset=labels[0].dataset)
    other = factories.ModelVersionFactory(registered_model=model)
    nothing = tell(
        other, labels, rita, true="cd", before="cc", after="cd", split="train"
    )
    found = figures(nothing)
    assert found["claim"]["verdict"] == "nothing"
    assert found["claim"]["text"].startswith("Nothing can be claimed")


def test_it_waits_for_every_scan_and_says_for_which(told) -> None:
    def after(objects, **changes):
        rows = type(objects).objects.filter(pk=objects.pk)
        before = rows.values(*changes).get()
        rows.update(**changes)
        why = waits_for(TrainingRun.objects.get(pk=told.run.pk))
        rows.update(**before)
        return why

    assert waits_for(told.run) == ""
    assert "is running" in after(told.run, state="running")
    assert "not scanned yet" in after(told.run, verifying_scan=None)
    assert "is failed" in after(told.after, state="failed")
    assert "over the test split is done" in after(told.before, split="val")
    assert "over the test split is done" in after(told.before, folds=5)
    assert "is not done" in after(told.control, state="queued", verifying_scan=None)
    assert "is not done" in after(told.control.verifying_scan, state="running")
    soon = timezone.now() + timedelta(hours=1)
    waiting = {"verifying_scan": None, "verify_until": soon}
    assert "is not done" in after(told.control, **waiting)
    assert after(told.control, state="failed", verifying_scan=None) == ""


def test_a_control_that_came_to_nothing_is_named(told) -> None:
    Scan.objects.filter(pk=told.control.verifying_scan_id).update(state="cancelled")
    found = figures(told)
    assert found["control"] is None
    assert "cannot be compared: its scan is cancelled" in found["claim"]["control"]


def test_it_refuses_a_control_and_a_run_that_is_not_verified(told, version) -> None:
    with pytest.raises(Refused, match="is a control"):
        start_report(run=told.control, by=None)
    with pytest.raises(Refused, match="not scanned yet"):
        start_report(run=add_run(version), by=None)
    assert not Report.objects.exists()


def test_new_runs_are_reported_by_themselves_and_once(told, version) -> None:
    add_run(version)
    (pk,) = report_new_runs()
    assert Report.objects.get().run == told.run
    tasks.run_report(pk)
    tasks.run_report(0)
    assert Report.objects.get().state == "done"
    assert report_new_runs() == []


def test_the_scan_that_ends_last_has_it_made(told, monkeypatch) -> None:
    sent = []
    monkeypatch.setattr(
        tasks,
        "_send",
        lambda task, pks, **_: sent.extend((task.name, pk) for pk in pks),
    )
    tasks.finish_scan(told.after.pk)
    assert ("reviewapp.tasks.run_report", Report.objects.get().pk) in sent


def test_asked_for_again_it_is_made_anew_with_one_event_each_time(told, rita) -> None:
    first = made(told)
    assert run_report(report=first).finished_at == first.finished_at
    again = start_report(run=told.run, by=rita)
    assert start_report(run=told.run, by=None) == again
    assert (again.pk, again.state, again.requested_by) == (first.pk, "queued", rita)
    assert again.figures == first.figures
    assert run_report(report=again).finished_at > first.finished_at
    assert Event.objects.filter(action="report started").count() == 2


def test_a_lost_artefact_fails_it_and_keeps_what_was_said(told) -> None:
    before = made(told)
    lose(told.after)
    failed = made(told)
    assert (failed.state, failed.figures) == ("failed", before.figures)
    assert "scan again" in failed.message


def test_lost_ones_are_sent_again_and_fresh_ones_are_not(told) -> None:
    report = start_report(run=told.run, by=None)
    rows = Report.objects.filter(pk=report.pk)
    assert requeue_silent_reports() == []
    long_ago = timezone.now() - timedelta(hours=1)
    rows.update(state="running", heartbeat_at=long_ago, requested_at=long_ago)
    assert requeue_silent_reports() == [report.pk]
    rows.update(state="running", heartbeat_at=timezone.now())
    assert requeue_silent_reports() == []


def test_one_that_was_given_up_does_not_write_over_its_successor(
    told, monkeypatch
) -> None:
    def slow(run):
        Report.objects.update(state="running", heartbeat_at=timezone.now())
        raise OSError("late")

    monkeypatch.setattr("reviewapp.actions.reports.figures_of", slow)
    assert made(told).state == "running"


def test_it_is_told_with_its_claim_and_who_asked_for_the_run(
    told, rita, webhook
) -> None:
    TrainingRun.objects.filter(pk=told.run.pk).update(requested_by=rita)
    made(told)
    notice = Notice.objects.get()
    assert notice.kind == "report.finished"
    run = f"training run {told.run.pk} of resnet v1"
    assert notice.title == f"The report of {run} is done"
    first, control, asked = notice.text.split("\n")
    assert first.startswith("A gain: on 50 images")
    assert control.startswith("The control, with samples drawn at random, explains")
    assert asked == "The training was asked for by rita."
    assert notice.path == f"/datasets/animals/training/{told.run.pk}/report/"
    assert notice.data["report"]["claim"]["verdict"] == "gain"
    assert notice.data["run"]["requested_by"] == "rita"


def test_one_that_failed_or_was_given_up_is_told_too(told, webhook, settings) -> None:
    settings.SHARD_MAX_LOSSES = 1
    lose(told.after)
    made(told)
    notice = Notice.objects.get()
    assert notice.title.endswith(" failed")
    assert "scan again" in notice.text
    assert notice.data["report"]["claim"] is None
    Report.objects.update(
        state="running", heartbeat_at=timezone.now() - timedelta(hours=1)
    )
    assert requeue_silent_reports() == []
    assert "went silent over it: 1" in Notice.objects.latest("pk").text
