"""The pages of thresholds and slices."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from reviewapp import tasks
from reviewapp.actions.analyses import run_analysis, start_analyses
from reviewapp.models import Analysis, Finding
from reviewapp.queues import read_queue
from tests import factories
from tests.analysing import Seen, add_scan


@pytest.fixture(autouse=True)
def sent(monkeypatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(tasks, "_send", lambda task, pks, **_: found.extend(pks))
    return found


@pytest.fixture
def client(rita, client_of):
    return client_of(rita)


@pytest.fixture
def scan(version):
    """Cats and dogs: errors at 0.55 to 0.94, right ones at 0.5 to 0.99."""
    seen = [
        Seen(0, 1, 0.55, p_true=0.4),
        Seen(0, 1, 0.88, p_true=0.1),
        Seen(1, 0, 0.9, p_true=0.05),
        Seen(1, 2, 0.94, p_true=0.02),
        *[Seen(i % 2, i % 2, 0.5 + i / 100) for i in range(50)],
    ]
    return add_scan(version, seen, findings=True)


@pytest.fixture
def analysed(scan):
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    return scan


def url(scan, page: str = "thresholds", query: str = "") -> str:
    return f"/datasets/animals/scans/{scan.pk}/{page}/{query}"


@pytest.mark.parametrize("page", ["thresholds", "slices"])
def test_it_is_asked_for_waited_for_and_shown(
    client, scan, sent, page, django_capture_on_commit_callbacks
) -> None:
    assert "Not computed yet" in client.get(url(scan, page)).text
    assert not Analysis.objects.exists()  # looking computes nothing
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post(url(scan, "analyse"), {"page": page})
    assert answer.headers["Location"] == url(scan, page)
    assert sent == list(scan.analyses.order_by("-what").values_list("pk", flat=True))
    waiting = client.get(url(scan, page))
    assert 'hx-trigger="every 2s"' in waiting.text
    poll = client.get(url(scan, page), headers={"HX-Request": "true"})
    assert poll.status_code == 204
    for pk in sent:
        tasks.run_analysis(pk)
    poll = client.get(url(scan, page), headers={"HX-Request": "true"})
    assert poll.headers["HX-Refresh"] == "true"
    done = client.get(url(scan, page))
    assert "hx-trigger" not in done.text
    assert "Compute again" in done.text


@pytest.mark.parametrize("page", ["thresholds", "slices"])
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "running"}, "computed by itself when it is done"),
        ({"state": "partial"}, "Resume it, or scan again"),
        ({}, "The outcomes were not kept"),
    ],
)
def test_what_cannot_be_analysed_says_why(client, version, page, fields, said) -> None:
    scan = factories.ScanFactory(model_version=version, **fields)
    assert said in client.get(url(scan, page)).text
    assert client.post(url(scan, "analyse")).status_code == 400


def test_the_figures_are_those_at_the_threshold(client, analysed) -> None:
    page = client.get(url(analysed, query="?threshold=0.9&width=0.05"))
    region = page.context["region"]
    at = region["at"]
    # 0.90 to 0.99 right, and the errors 0.9 and 0.94.
    assert (at["samples"], at["accepted"], at["errors"]) == (54, 12, 2)
    assert at["accuracy"] == pytest.approx(10 / 12)
    assert at["recall"] == pytest.approx(10 / 54)
    # 0.85 to 0.95: eleven right ones and three errors; no near miss above 0.6.
    assert region["band"] == {
        "from": 0.85,
        "to": 0.95,
        "samples": 14,
        "errors": 3,
        "near_misses": 0,
        "right": 11,
    }
    assert "11 of them are right with p(true) of 0.6 or more" in page.text
    for said in ("83.3 %", "Review 3 errors", "No near misses of the band wait"):
        assert said in page.text


def test_the_figures_of_a_class(client, analysed, labels) -> None:
    query = f"?threshold=0.9&label={labels[1].pk}"
    region = client.get(url(analysed, query=query)).context["region"]
    at = region["at"]
    # Dogs: right at the odd hundredths, two errors; nothing else is accepted as a dog.
    assert (at["class"], at["samples"], at["accepted"], at["errors"]) == (
        "dog",
        27,
        7,
        2,
    )
    assert at["precision"] == 1.0
    assert region["band"]["errors"] == 2


def test_the_band_is_sent_to_the_queue(client, analysed, dataset) -> None:
    page = client.get(url(analysed, query="?threshold=0.9&width=0.02"))
    queue = page.context["waiting"][0].queue
    assert (
        queue.title == "errors, test, confidence 0.88 to 0.92"
        or "0.88 to 0.92" in queue.title
    )
    findings = set(read_queue(dataset, queue.fields).findings)
    assert {f.confidence for f in findings} == {0.88, 0.9}
    assert [f.confidence for f in page.context["pictures"]] == [0.88, 0.9]
    answer = client.post("/datasets/animals/review/next/", queue.fields)
    assert answer.status_code == 302
    first = Finding.objects.get(confidence=0.88)  # the least sure
    assert f"/review/{first.pk}/" in answer.headers["Location"]
    listed = client.get(
        "/datasets/animals/findings/?confidence_from=0.88&confidence_to=0.92"
    )
    assert set(listed.context["page"].rows) == findings


def test_near_misses_of_the_band_are_findings(
    client, analysed, registered_model
) -> None:
    sample = analysed.dataset.samples.order_by("pk")[6]  # right at 0.52
    factories.FindingFactory(
        sample=sample,
        predicted_label=sample.label,
        registered_model=registered_model,
        confidence=0.52,
        priority=0.48,
    )
    page = client.get(url(analysed, query="?threshold=0.55&width=0.05"))
    assert page.context["region"]["band"]["near_misses"] == 10  # 0.50 to 0.59
    assert "Review 1 near misses" in page.text


def test_a_scan_for_the_record_has_nothing_to_review(client, version) -> None:
    scan = add_scan(version, [Seen(0, 1, 0.9)] * 5, for_record=True)
    start_analyses(scan=scan, by=None)
    for analysis in scan.analyses.all():
        run_analysis(analysis=analysis)
    page = client.get(url(scan))
    assert "it made no findings" in page.text
    assert "Review" not in re.sub(r"<nav.*?</nav>", "", page.text, flags=re.S)


def test_the_cheapest_threshold_goes_by_the_costs_given(client, analysed) -> None:
    def found(query: str):
        return client.get(url(analysed, query=query)).context["region"]["cheapest"]

    assert found("?look=1&error=0")["threshold"] == 0
    dear = found("?look=1&error=1000")
    # Above 0.94, the surest error.
    assert (dear["threshold"], dear["looks"], dear["errors"]) == (0.95, 49, 0)
    # Only dogs taken for foxes cost something: look at all below 0.94.
    query = "?look=1&error=0&true=dog&predicted=fox&cost=1000"
    assert found(query)["cost"] == 49
    query = "?look=1&error=0&true=cat&predicted=&cost=1000"
    assert found(query)["threshold"] == 0.89


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?true=yak&predicted=&cost=1", "There is no class “yak”"),
        ("?true=&predicted=cat&cost=1", "There is no class “”"),
        ("?true=cat&predicted=cat&cost=1", "cat predicted as cat is no error"),
        ("?true=cat&predicted=dog&cost=", "must be a number, 0 or more"),
        ("?true=cat&predicted=dog&cost=-1", "must be a number, 0 or more"),
        ("?true=cat&predicted=dog&cost=nan", "must be a number, 0 or more"),
        ("?true=cat&predicted=dog&cost=1e308", "at most 1,000,000,000"),
        ("?true=cat", "equally often"),
        ("?threshold=2", "less than or equal to 1"),
        ("?threshold=", "required"),
        ("?threshold=nan&width=x", "Enter a number"),
        ("?look=-1", "greater than or equal to 0"),
        ("?error=1e400", "Enter a number"),
        ("?label=0", "Select a valid choice"),
        ("?label=%00", "Select a valid choice"),
    ],
)
def test_what_makes_no_sense_is_said_and_the_page_stands(
    client, analysed, query, said
) -> None:
    page = client.get(url(analysed, query=query))
    assert page.status_code == 200
    assert said in page.text.replace("&quot;", "").replace("&#x27;", "'")
    assert page.context["region"]["threshold"] == 0.9


def test_lines_of_costs_stay_in_the_form(client, analysed) -> None:
    query = "?true=cat&predicted=dog&cost=3&true=&predicted=&cost="
    page = client.get(url(analysed, query=query))
    assert page.context["costs"] == [("cat", "dog", "3"), ("", "", ""), ("", "", "")]


def test_a_failed_one_says_why_and_can_be_made_again(client, scan) -> None:
    scan.artefact = "gone"
    scan.save()
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    page = client.get(url(scan))
    assert "are not in the storage any more" in page.text
    assert "Compute again" in page.text


def test_a_slice_opens_its_hardest_errors(client, version) -> None:
    seen = [Seen(0, int(i < 20), brightness=i / 60, p_true=i / 100) for i in range(60)]
    scan = add_scan(version, seen, findings=True)
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    page = client.get(url(scan, "slices"))
    assert "1 of 1 attributes goes with errors" in page.text
    assert 'href="?slice=0-0#slice"' in page.text
    opened = client.get(url(scan, "slices", "?slice=0-0"))
    assert opened.context["title"] == "brightness: 0 to 0.1833"
    keys = list(scan.dataset.samples.order_by("pk").values_list("key", flat=True))
    assert [f.sample.key for f in opened.context["pictures"]] == keys[:12]
    leaf = client.get(url(scan, "slices", "?slice=tree-0"))
    assert leaf.context["title"].startswith("brightness at most")
    assert leaf.context["slice"]["covered"] == 1.0
    for nonsense in ("9-9", "tree-9", "x", "%00", "-1--1"):
        page = client.get(url(scan, "slices", f"?slice={nonsense}"))
        assert (page.status_code, page.context["chosen"]) == (200, "")


def test_an_import_without_images_says_what_is_missing(client, version) -> None:
    seen = [Seen(0, i % 2, brightness=None) for i in range(40)]
    scan = add_scan(version, seen, trigger="import")
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    page = client.get(url(scan, "slices"))
    assert "Nothing is known of the images" in page.text
    assert "imported without the images" in page.text
    assert "No attributes" in page.text


def test_images_known_in_part_are_said_to_be(client, version) -> None:
    seen = [Seen(0, int(i < 9), brightness=0.1 if i < 9 else None) for i in range(40)]
    scan = add_scan(version, seen)
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    page = client.get(url(scan, "slices"))
    assert "known of 9 of 40 images only" in page.text


def test_a_scan_without_errors_says_so(client, version) -> None:
    scan = add_scan(version, [Seen(0, 0)] * 5)
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    assert "This scan has no error" in client.get(url(scan, "slices")).text
    assert "0.0 %" in client.get(url(scan)).text


def test_a_scan_of_unreadable_images_says_so(client, version) -> None:
    scan = add_scan(version, [Seen(0, None)] * 5)
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    assert (
        "No sample of this scan could be read" in client.get(url(scan, "slices")).text
    )
    assert "No sample could be read" in client.get(url(scan)).text


def test_a_thousand_classes_come_in_pages(client, dataset, registered_model) -> None:
    for index in range(3, 1000):
        factories.LabelFactory(dataset=dataset, index=index, name=f"c{index:04d}")
    version = factories.ModelVersionFactory(registered_model=registered_model)
    seen = [Seen(n % 40, (n + (n % 7 == 0)) % 40, 0.5 + n / 1000) for n in range(400)]
    scan = add_scan(version, seen)
    for analysis in start_analyses(scan=scan, by=None):
        run_analysis(analysis=analysis)
    with CaptureQueriesContext(connection) as found:
        page = client.get(url(scan, query="?threshold=0.7"))
    # session, user, data set, scan, analysis, labels; two counts, two sides of the images
    assert len(found) <= 16
    assert len(page.context["classes"]) == 50
    assert "classes=2" in page.text
    assert "threshold=0.7&amp;classes=2" in page.text
    assert page.text.count("<option") == 2 * 1000 + 1
    last = client.get(url(scan, query="?threshold=0.7&classes=20"))
    assert len(last.context["classes"]) == 50
    totals = page.context["classes"].paginator.object_list
    assert (
        sum(row["errors"] for row in totals) == page.context["region"]["at"]["errors"]
    )


def test_another_teams_scan_is_not_found(client_of, charlie, analysed) -> None:
    client = client_of(charlie)
    for page in ("thresholds", "slices"):
        assert client.get(url(analysed, page)).status_code == 404
    assert client.post(url(analysed, "analyse")).status_code == 404
