"""Fix sets in the browser: previewed and frozen."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.models import Export, Finding, FixSet, User, Verdict
from tests import factories
from tests.conftest import World
from tests.reviewing import decide

ClientOf = Callable[[User], Client]
URL = "/datasets/animals/fixsets/"


@pytest.fixture
def reviewed(world: World, rita: User) -> World:
    """Two confirmed findings, one of them blurred, and one relabelled to fox."""
    first, second, third = world.findings
    decide(finding=first, by=rita, verdict=Verdict.CONFIRM, version=0, causes=["blur"])
    decide(finding=second, by=rita, verdict=Verdict.CONFIRM, version=0)
    decide(
        finding=third,
        by=rita,
        verdict=Verdict.RELABEL,
        version=0,
        new_label=world.labels[2],
    )
    return world


@pytest.fixture
def fix_set(reviewed: World, alice: User) -> FixSet:
    return freeze_fix_set(
        dataset=reviewed.dataset,
        name="cats & dogs: Ünïcode/../",
        findings=Finding.objects.for_dataset(reviewed.dataset),
        by=alice,
        filter={"split": "test", "true_label": "cat"},
    )


def test_the_preview_counts_and_warns_of_test_images(
    reviewed: World, alice: User, client_of: ClientOf
) -> None:
    response = client_of(alice).get(f"{URL}new/")

    preview = response.context["preview"]
    assert preview.size == 3
    assert preview.by_verdict == {"confirm": 2, "relabel": 1}
    assert preview.by_label == {"cat": 2, "fox": 1}
    assert preview.by_cause == {"blur": 1}
    html = response.content.decode()
    assert "3 items" in html
    assert "accuracy meaningless" in html
    assert "<html" in html


def test_htmx_gets_the_preview_alone_and_the_filter_counts(
    reviewed: World, alice: User, client_of: ClientOf
) -> None:
    Finding.objects.filter(pk=reviewed.findings[0].pk).update(priority=0.5)
    response = client_of(alice).get(
        f"{URL}new/", {"p_true_below": "0.4"}, headers={"HX-Request": "true"}
    )
    html = response.content.decode()
    assert html.strip().startswith("<section")
    assert response.context["preview"].size == 2


def test_without_javascript_the_preview_button_freezes_nothing(
    reviewed: World, alice: User, client_of: ClientOf
) -> None:
    data = {"name": "x", "cause": "blur", "preview": "1"}
    response = client_of(alice).post(f"{URL}new/", data)
    assert response.context["preview"].size == 1
    assert not FixSet.objects.exists()


def test_only_states_that_can_be_frozen_are_offered(
    reviewed: World, alice: User, client_of: ClientOf
) -> None:
    response = client_of(alice).get(f"{URL}new/")
    fields = response.context["form"].query.form.fields
    offered = {
        name: [value for value, _ in fields[name].choices]
        for name in ("review_state", "presence")
    }
    assert offered == {
        "review_state": ["", "confirmed", "relabelled"],
        "presence": ["", "seen", "fixed", "regressed"],
    }
    relabelled = client_of(alice).get(f"{URL}new/", {"review_state": "relabelled"})
    assert relabelled.context["preview"].by_verdict == {"relabel": 1}
    refused = client_of(alice).get(f"{URL}new/", {"review_state": "open"})
    assert "Select a valid choice" in refused.text
    assert "The filter cannot be used" in refused.text


def test_there_is_no_warning_without_test_images(
    reviewed: World, alice: User, client_of: ClientOf
) -> None:
    reviewed.dataset.samples.update(split="train")
    html = client_of(alice).get(f"{URL}new/").content.decode()
    assert "3 items" in html
    assert "meaningless" not in html


def test_freezing_keeps_the_filter_in_words(
    reviewed: World, alice: User, client_of: ClientOf
) -> None:
    response = client_of(alice).post(
        f"{URL}new/",
        {"name": "Blurred", "true_label": reviewed.labels[0].pk, "cause": "blur"},
    )

    made = FixSet.objects.get()
    assert response.headers["Location"] == f"{URL}{made.pk}/"
    assert (made.name, made.size) == ("Blurred", 1)
    assert made.filter == {"true_label": "cat", "cause": ["blur"]}
    html = client_of(alice).get(f"{URL}{made.pk}/").content.decode()
    assert "<dt>True label</dt>" in html
    assert made.digest in html


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"name": "x", "true_label": "999999"}, "Select a valid choice"),
        ({"name": "x", "p_true_below": "NaN"}, "Enter a number"),
        ({"name": "x", "key": "no such file"}, "No confirmed or relabelled finding"),
        ({"name": "x\0"}, "Null characters are not allowed"),
    ],
)
def test_what_cannot_be_frozen_is_said_and_the_input_kept(
    reviewed: World,
    alice: User,
    client_of: ClientOf,
    data: dict[str, str],
    said: str,
) -> None:
    response = client_of(alice).post(f"{URL}new/", {"cause": "blur"} | data)
    html = response.content.decode()
    assert said in html
    assert re.search('value="blur"[^>]*checked', html)
    assert not FixSet.objects.exists()


def test_a_taken_name_is_refused(
    fix_set: FixSet, alice: User, client_of: ClientOf
) -> None:
    response = client_of(alice).post(f"{URL}new/", {"name": fix_set.name})
    assert "There is already a fix set named" in response.content.decode()
    assert FixSet.objects.count() == 1


def test_a_label_of_another_data_set_is_no_choice(
    reviewed: World, alice: User, charlie: User, client_of: ClientOf
) -> None:
    other = factories.LabelFactory(dataset=charlie.memberships.get().dataset)
    response = client_of(alice).post(
        f"{URL}new/", {"name": "x", "true_label": other.pk}
    )
    assert "Select a valid choice" in response.content.decode()


def test_leads_and_reviewers_read_but_do_not_freeze_or_export(
    fix_set: FixSet, alice: User, lena: User, rita: User, client_of: ClientOf
) -> None:
    export = run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    for person in (lena, rita):
        client = client_of(person)
        page = client.get(f"{URL}{fix_set.pk}/")
        assert page.status_code == 200
        assert "Download" not in page.content.decode().replace(">Download</span>", "")
        assert client.get(f"{URL}new/").status_code == 403
        assert client.post(f"{URL}new/", {"name": "mine"}).status_code == 403
        export_url = f"{URL}{fix_set.pk}/exports/"
        assert client.post(export_url, {"format": "csv"}).status_code == 403
        assert client.get(f"{export_url}{export.pk}/").status_code == 403
    assert Export.objects.count() == 1


def test_a_hostile_file_name_is_text_on_the_page(
    reviewed: World, alice: User, client_of: ClientOf
) -> None:
    reviewed.findings[0].sample.key = "../<script>alert('x')</script>\n.png"
    reviewed.findings[0].sample.save()
    made = freeze_fix_set(
        dataset=reviewed.dataset,
        name="<b>bold</b>",
        findings=Finding.objects.all(),
        by=alice,
    )
    html = client_of(alice).get(f"{URL}{made.pk}/").content.decode()
    assert "<script>alert" not in html
    assert "<b>bold" not in html
    assert "../&lt;script&gt;" in html


def test_lists_and_details_cost_the_same_queries_for_3_and_30_rows(
    fix_set: FixSet, reviewed: World, rita: User, alice: User, client_of: ClientOf
) -> None:
    client = client_of(rita)

    def queries(url: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(url).status_code == 200
        return len(captured)

    def freeze(names: range) -> FixSet:
        made = [
            freeze_fix_set(
                dataset=reviewed.dataset,
                name=f"set {n}",
                findings=Finding.objects.all(),
                by=alice,
            )
            for n in names
        ]
        return made[-1]

    freeze(range(2))
    few = queries(URL)
    small = queries(f"{URL}{fix_set.pk}/")
    for finding in reviewed.add_findings(27):
        decide(finding=finding, by=rita, verdict=Verdict.CONFIRM, version=0)
    large = freeze(range(2, 29))

    # Session, user, data set, fix sets, role.
    assert few == queries(URL) == 5
    # Session, user, data set, fix set, exports, role, recipes, held, five counts, items.
    assert small == queries(f"{URL}{large.pk}/") == 14


def test_the_empty_list_says_what_to_do(rita: User, client_of: ClientOf, world) -> None:
    html = client_of(rita).get(URL).content.decode()
    assert "No fix set yet" in html
    assert "New fix set" not in html
