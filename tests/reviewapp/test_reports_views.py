"""The page of a report, and the same by API."""

from __future__ import annotations

import json

import pytest
from django.utils import timezone

from reviewapp import tasks
from reviewapp.models import Report, Scan, Verdict
from reviewapp.templatetags.comparisons import errors, whole_percent
from tests.reporting import Told, add_run, tell
from tests.reviewing import decide


@pytest.fixture(autouse=True)
def sent(monkeypatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(tasks, "_send", lambda task, pks, **_: found.extend(pks))
    return found


@pytest.fixture
def told(version, labels, rita) -> Told:
    return tell(
        version,
        labels,
        rita,
        true="c" * 30 + "d" * 20,
        before="d" * 20 + "c" * 10 + "d" * 20,
        after="c" * 29 + "d" + "d" * 19 + "f",
        control="d" * 12 + "c" * 18 + "d" * 20,
        fixes="cd cd dc",
    )


@pytest.fixture
def client(rita, client_of):
    return client_of(rita)


def url(told: Told, end: str = "report/") -> str:
    return f"/datasets/animals/training/{told.run.pk}/{end}"


@pytest.fixture
def ask(client, told, sent, django_capture_on_commit_callbacks):
    def ask():
        with django_capture_on_commit_callbacks(execute=True):
            response = client.post(url(told))
        assert response.headers["Location"] == url(told)
        return sent[-1]

    return ask


def test_the_first_sentence_is_the_claim_and_the_rest_has_its_numbers(
    ask, client, told, django_assert_max_num_queries
) -> None:
    tasks.run_report(ask())
    with django_assert_max_num_queries(9):
        page = client.get(url(told))
    text = " ".join(page.text.split())
    assert text.index("A gain: on 50 images") < text.index("Before and after")
    assert "The control, with samples drawn at random, explains 44 % of it" in text
    assert "cat → dog" in text
    assert text.index("Before: ") < text.index("After: ") < text.index("Control: ")
    assert "Nothing can be claimed" not in text
    assert "None of the 50 images looks like one that was trained on." in text
    assert "similar" not in text
    assert "No label of these was corrected" in text
    # It aims at dog -> cat, too, which has no error on either side.
    bars = [(row.actual, row.predicted) for row in page.context["bars"]]
    assert bars == [("cat", "dog"), ("dog", "fox")]
    for part in ("Control", "What each fix bought", "Leakage", "pose", "night shift"):
        assert part in text
    assert [row["label"] for row in page.context["credited"].rows] == ["cat"]
    assert "Left out: 1 confusion with fixes that is zero throughout." in text


def test_before_it_is_made_the_page_says_what_it_waits_for(client, version) -> None:
    run = add_run(version, state="running")
    page = client.get(f"/datasets/animals/training/{run.pk}/report/")
    assert "The training run is running." in page.text
    assert "Make the report" not in page.text


def test_one_that_could_be_made_can_be_asked_for(client, told) -> None:
    assert "Make the report" in client.get(url(told)).text


def test_a_waiting_page_is_loaded_anew_when_the_report_is_there(
    ask, client, told
) -> None:
    report = ask()
    assert "hx-get" in client.get(url(told)).text
    headers = {"HX-Request": "true"}
    assert client.get(url(told), headers=headers).status_code == 204
    tasks.run_report(report)
    assert client.get(url(told), headers=headers).headers["HX-Refresh"] == "true"
    assert "hx-trigger" not in client.get(url(told)).text


def test_a_failed_one_says_why_and_can_be_tried_again(ask, client, told) -> None:
    Report.objects.filter(pk=ask()).update(state="failed", message="the disk is full")
    page = client.get(url(told))
    assert "the disk is full" in page.text
    assert "Try again" in page.text


def test_verdicts_given_since_make_it_old(ask, client, told, rita, world) -> None:
    tasks.run_report(ask())
    said = "Verdicts were given or taken back since then"
    Report.objects.update(finished_at=timezone.now())
    assert said not in client.get(url(told)).text
    decide(finding=world.findings[0], by=rita, verdict=Verdict.CONFIRM, version=0)
    assert said in client.get(url(told)).text


def test_both_kinds_of_labels_are_shown_where_some_were_corrected(
    ask, client, told, labels
) -> None:
    told.tested[0].label = labels[2]
    told.tested[0].save()
    tasks.run_report(ask())
    text = client.get(url(told)).text
    assert "Scored with the corrected labels; 1 of 50 were corrected" in text
    assert "Scored with the original labels" in text


def test_the_json_is_a_file_with_the_same_figures(ask, client, told) -> None:
    assert client.get(url(told, "report.json")).status_code == 404
    tasks.run_report(ask())
    answer = client.get(url(told, "report.json"))
    assert json.loads(answer.content) == Report.objects.get().figures
    assert answer.headers["Content-Disposition"] == (
        f'attachment; filename="report-animals-{told.run.pk}.json"'
    )


def test_a_scan_of_what_was_trained_on_is_marked(ask, client, told) -> None:
    tasks.run_report(ask())
    assert "in-sample" not in client.get(url(told)).text
    Scan.objects.filter(pk=told.before.pk).update(covers_train=True)
    assert client.get(url(told)).text.count("in-sample") == 1


def test_a_control_has_no_page(client, told) -> None:
    assert told.control is not None
    page = f"/datasets/animals/training/{told.control.pk}/report/"
    assert client.get(page).status_code == 404


def test_the_api_has_it_made_and_gives_it_out(
    client, told, sent, django_capture_on_commit_callbacks
) -> None:
    root = "/api/datasets/animals/reports/"
    with django_capture_on_commit_callbacks(execute=True):
        asked = client.post(root, {"run": told.run.pk}, "application/json")
    assert (asked.status_code, asked.json()["state"]) == (202, "queued")
    assert asked.json()["figures"] == {}
    tasks.run_report(sent[-1])
    found = client.get(f"{root}{told.run.pk}/").json()
    assert (found["state"], found["run"]) == ("done", told.run.pk)
    assert found["figures"]["claim"]["verdict"] == "gain"
    (listed,) = client.get(root).json()["results"]
    assert listed == found
    refused = client.post(root, {"run": told.control.pk}, "application/json")
    assert (refused.status_code, "is a control" in refused.text) == (400, True)
    assert client.post(root, {"run": 0}, "application/json").status_code == 404


def test_small_changes_keep_their_digits_and_none_is_none() -> None:
    assert [errors(n) for n in (1234, -0.004, 2.5, None)] == [
        "+1,234",
        "0",
        "+2.5",
        "\N{EN DASH}",
    ]
    assert whole_percent(None) == "\N{EN DASH}"
