"""The first page, a data set at a glance, and the health check."""

from __future__ import annotations

import json
import re

import pytest
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from redis import RedisError

from reviewapp.models import Registration, Role, Scan
from reviewapp.views.dashboard import accuracy_span
from tests import factories

HOME = reverse("dashboard")
OVERVIEW = reverse("dataset-detail", args=["animals"])


def tiles(html: str) -> dict[str, str]:
    """Return stat tile -> number."""
    found = re.findall(
        r'<div class="stat">\s*<dt>([^<]+)</dt>\s*<dd>([^<]+)</dd>', html
    )
    return dict(found)


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as found:
        assert client.get(address).status_code == 200
    return len(found)


def test_the_first_page_shows_a_card_with_the_last_scan(world, rita, client_of):
    html = client_of(rita).get(HOME).content.decode()
    assert tiles(html) == {"Accuracy": "70.0 %", "Errors": "3", "Waiting": "3"}
    assert OVERVIEW in html


def test_a_scan_for_the_record_is_not_the_last_scan(world, rita, client_of):
    old = factories.ScanFactory(
        model_version=world.scan.model_version, correct=1, errors=9, for_record=True
    )
    for page in (HOME, OVERVIEW):
        html = client_of(rita).get(page).content.decode()
        assert "70.0 %" in html
        assert f"Scan {old.pk} of" not in html


def test_the_first_page_shows_nothing_of_another_team(world, charlie, client_of):
    html = client_of(charlie).get(HOME).content.decode()
    assert "Animals" not in html
    assert "Other" in html


def test_the_empty_first_page_says_what_to_do(db, client_of):
    person = factories.UserFactory(username="new")
    staff = factories.UserFactory(username="staff", is_staff=True)
    assert (
        "Ask an admin of the data set" in client_of(person).get(HOME).content.decode()
    )
    assert reverse("dataset-new") in client_of(staff).get(HOME).content.decode()


def test_more_data_sets_cost_no_more_queries(world, rita, client_of):
    client = client_of(rita)
    before = queries(client, HOME)
    for _ in range(29):
        dataset = factories.DatasetFactory()
        factories.RegistrationFactory(dataset=dataset, total=5)
        factories.MembershipFactory(user=rita, dataset=dataset)
        model = factories.RegisteredModelFactory(dataset=dataset)
        version = factories.ModelVersionFactory(registered_model=model)
        factories.ScanFactory(model_version=version, correct=4, errors=1)
        factories.ScanFactory(
            model_version=version, state=Scan.State.RUNNING, samples=5
        )
    # session, user, last scans, active scans, registrations, waiting, data sets
    assert before == queries(client, HOME) == 7


def test_the_overview_counts_what_is_done_and_what_is_left(world, rita, client_of):
    world.add_findings(2, true=1, predicted=1)  # near misses
    for finding, state in zip(
        world.findings, ["confirmed", "relabelled", "open", "dismissed"], strict=False
    ):
        finding.review_state = state
        finding.save(update_fields=["review_state"])
    html = client_of(rita).get(OVERVIEW).content.decode()
    assert tiles(html) == {
        "Top-1 accuracy": "70.0 %",
        "Errors": "3",
        "Near misses": "0",
        "Waiting for review": "1",
        "Reviewed": "3",
    }
    assert "and 1 near misses" in html
    assert "1 confirmed, 1 relabelled, 1 dismissed" in html


def test_the_overview_compares_with_the_scan_before_of_the_same_split(
    world, rita, client_of
):
    factories.ScanFactory(
        model_version=world.scan.model_version, correct=8, errors=2, split="test"
    )
    factories.ScanFactory(
        model_version=world.scan.model_version, correct=1, errors=9, split="val"
    )
    last = factories.ScanFactory(
        model_version=world.scan.model_version, correct=9, errors=1, split="test"
    )
    html = client_of(rita).get(OVERVIEW).content.decode()
    assert tiles(html)["Top-1 accuracy"] == "90.0 %"
    assert "test, 80.0 % the scan before" in html
    figure = json.loads(
        re.search(r'id="scans-figure"[^>]*>(.*?)</script>', html, re.DOTALL)[1]
    )
    accuracy = {t["name"]: t["y"] for t in figure["traces"] if "yaxis" not in t}
    assert accuracy == {"resnet, test": [70.0, 80.0, 90.0], "resnet, val": [10.0]}
    assert figure["layout"]["xaxis"]["categoryarray"][-1] == f"#{last.pk}"


def test_a_controls_scan_is_not_the_last_one_and_is_named_beside_it(
    world, rita, client_of
):
    model = factories.RegisteredModelFactory(dataset=world.dataset, name="by chance")
    version = factories.ModelVersionFactory(registered_model=model, checkpoint="c")
    run = factories.TrainingRunFactory(parent=world.scan.model_version)
    factories.TrainingRunFactory(
        parent=world.scan.model_version, control_of=run, version=version, state="done"
    )
    client = client_of(rita)
    for fields in ({"for_record": True}, {"correct": 1}):  # by the training; by hand
        control = factories.ScanFactory(model_version=version, **fields)
        page = client.get(OVERVIEW)
        assert page.context["newest"] == control
        assert page.context["newest_counted"] == page.context["last"] == world.scan
        assert tiles(page.text)["Top-1 accuracy"] == "70.0 %"
        panel = page.text[page.text.index("<h2>Last scan</h2>") :]
        panel = panel[: panel.index("</dl>")]
        assert re.findall(r"/scans/(\d+)/", panel) == [
            str(world.scan.pk),
            str(control.pk),
        ]
        assert re.findall(r"<dt>(\w+)</dt>", panel)[-1] == "Control"
    factories.ScanFactory(model_version=version, state="running", samples=9)
    assert "of by chance v1, a control, is running" in client.get(OVERVIEW).text


def test_an_older_version_scanned_since_is_named_beside_the_last_scan(
    world, rita, client_of
):
    old = factories.ScanFactory(model_version=world.scan.model_version, for_record=True)
    page = client_of(rita).get(OVERVIEW)
    assert page.context["newest_counted"] == world.scan
    panel = page.text[page.text.index("<dt>For the record</dt>") :]
    assert f"/scans/{old.pk}/" in panel[: panel.index("</dd>")]


def test_with_one_scan_it_says_that_the_curve_begins_later(world, rita, client_of):
    client = client_of(rita)
    said = "One scan so far; the curve starts with the second."
    page = client.get(OVERVIEW)
    assert said in page.text
    assert page.context["figure"]["layout"]["yaxis"]["range"] == (65.0, 75.0)
    assert "<noscript>" in page.text
    factories.ScanFactory(model_version=world.scan.model_version, correct=1)
    assert said not in client.get(OVERVIEW).text


@pytest.mark.parametrize(
    ("accuracies", "span"),
    [
        ([], (0, 100)),
        ([75.7], (70.7, 80.7)),
        ([99, 100], (90, 100)),
        ([0, 1], (0, 10)),
        ([50, 70], (48, 72)),
        ([0, 100], (0, 100)),
    ],
)
def test_the_accuracy_axis_is_at_least_ten_points_wide(accuracies, span):
    assert accuracy_span(accuracies) == pytest.approx(span)


def test_the_top_confusions_lead_to_their_queue(world, rita, client_of):
    html = client_of(rita).get(OVERVIEW).content.decode()
    table = html[html.index("share of all errors") :]
    cells = re.findall(r"<td[^>]*>\s*([^<\s][^<]*)</td>", table)
    assert cells[:4] == ["cat", "dog", "3", "100.0 %"]
    assert f'action="{reverse("review-next", args=["animals"])}"' in table
    assert f'name="true_label" value="{world.labels[0].pk}"' in table


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (Registration.State.RUNNING, "The data set is being registered"),
        (Registration.State.FAILED, "The last registration failed: the disk is gone"),
    ],
)
def test_the_overview_says_how_the_registration_stands(
    dataset, rita, client_of, state, words
):
    factories.RegistrationFactory(
        dataset=dataset, state=state, message="the disk is gone"
    )
    assert words in client_of(rita).get(OVERVIEW).content.decode()


def test_the_overview_leads_from_step_to_step(dataset, lena, rita, client_of):
    lead, reviewer = client_of(lena), client_of(rita)
    assert "Register a checkpoint" in lead.get(OVERVIEW).content.decode()
    assert "A lead registers a model" in reviewer.get(OVERVIEW).content.decode()
    model = factories.RegisteredModelFactory(dataset=dataset)
    version = factories.ModelVersionFactory(registered_model=model)
    assert "Run a scan" in lead.get(OVERVIEW).content.decode()
    factories.ScanFactory(model_version=version, state=Scan.State.RUNNING, samples=9)
    assert "The first scan is on its way" in lead.get(OVERVIEW).content.decode()


def test_unreadable_images_of_the_last_scan_are_told(world, rita, client_of):
    version = world.scan.model_version
    factories.ScanFactory(model_version=version, correct=1, unreadable=2)
    assert (
        "2 images could not be read" in client_of(rita).get(OVERVIEW).content.decode()
    )


def test_more_scans_cost_the_overview_no_more_queries(world, rita, client_of):
    client = client_of(rita)
    before = queries(client, OVERVIEW)
    for _ in range(27):
        factories.ScanFactory(model_version=world.scan.model_version, correct=1)
    world.add_findings(27)
    # session, user, data set, finished scans, role, registration, last done one,
    # newest scan, waiting, each of three verdicts, confusions, events
    assert before == queries(client, OVERVIEW) == 14


def test_the_overview_is_not_there_for_another_team(world, charlie, client_of):
    assert client_of(charlie).get(OVERVIEW).status_code == 404


def test_only_what_a_role_may_do_is_offered(world, alice, lena, rita, client_of):
    again = reverse("dataset-register", args=["animals"])
    scan = reverse("scan-new", args=["animals"])
    pages = [
        client_of(person).get(OVERVIEW).content.decode()
        for person in (alice, lena, rita)
    ]
    assert [again in page for page in pages] == [True, False, False]
    assert [scan in page for page in pages] == [True, True, False]
    assert Role.ADMIN.administers
    assert not Role.LEAD.administers


def test_the_navigation_marks_the_section(world, rita, client_of):
    page = client_of(rita).get(reverse("scan-list", args=["animals"])).content.decode()
    current = re.findall(r'<a href="([^"]+)"\s+aria-current="page">', page)
    # Once in the rail and once in the phone's menu.
    assert current == [reverse("scan-list", args=["animals"])] * 2


def test_health_needs_no_sign_in(db):
    response = Client().get(reverse("health"))
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.parametrize("failing", ["database", "cache"])
def test_health_names_what_does_not_answer(db, monkeypatch, failing):
    def broken(*args: object, **kwargs: object) -> None:
        raise DatabaseError if failing == "database" else RedisError

    client = Client()
    with monkeypatch.context() as patch:
        if failing == "database":
            patch.setattr(connection, "cursor", broken)
        else:
            patch.setattr(cache, "set", broken, raising=False)
        response = client.get(reverse("health"))
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "failing": [failing]}


def test_an_unknown_address_is_a_page_of_ours(rita, client_of):
    response = client_of(rita).get("/nothing/here/")
    assert response.status_code == 404
    assert 'id="refusal"' in response.content.decode()
