"""Fix sets in the browser: previewed, frozen, exported, downloaded."""

from __future__ import annotations

import csv
import io
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reviewapp import tasks
from reviewapp.actions.fixsets import freeze_fix_set, request_export, run_export
from reviewapp.celery import app
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


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Export ids that were sent to a worker."""
    ids: list[int] = []
    monkeypatch.setattr(
        tasks.run_export, "apply_async", lambda args, **_: ids.extend(args)
    )
    return ids


@pytest.fixture(params=["nobody listens", "nobody answers"])
def no_broker(request, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A broker that is down, or whose machine hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "nobody answers":
            listener.listen()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        monkeypatch.setattr(app.conf, "broker_write_url", url)
        yield


def test_without_a_broker_the_export_waits_and_so_does_nobody(
    no_broker: None,
    fix_set: FixSet,
    alice: User,
    client_of: ClientOf,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks,
) -> None:
    started = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        response = client_of(alice).post(
            f"{URL}{fix_set.pk}/exports/", {"format": "csv"}
        )
    assert response.status_code == 302
    assert time.monotonic() - started < 10  # tried once; it would try for longer
    assert Export.objects.get().state == Export.State.QUEUED
    assert "run_export was not sent" in caplog.text


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
    assert made.filter == {"true_label": "cat", "cause": "blur"}
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
    assert '<option value="blur" selected>' in html
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


def test_exporting_queues_a_task_and_the_page_asks_until_it_is_done(
    fix_set: FixSet,
    alice: User,
    client_of: ClientOf,
    sent: list[int],
    django_capture_on_commit_callbacks,
) -> None:
    client = client_of(alice)
    with django_capture_on_commit_callbacks(execute=True):
        response = client.post(f"{URL}{fix_set.pk}/exports/", {"format": "jsonl"})
    export = Export.objects.get()
    assert response.headers["Location"] == f"{URL}{fix_set.pk}/"
    assert (sent, export.state) == ([export.pk], "queued")

    htmx = {"HX-Request": "true"}
    waiting = client.get(f"{URL}{fix_set.pk}/", headers=htmx).content.decode()
    run_export(export=export)
    done = client.get(f"{URL}{fix_set.pk}/", headers=htmx).content.decode()

    assert 'hx-trigger="every 1s"' in waiting
    assert "<progress" in waiting
    assert "hx-trigger" not in done
    assert f"{URL}{fix_set.pk}/exports/{export.pk}/" in done


def test_an_unknown_format_is_refused(
    fix_set: FixSet, alice: User, client_of: ClientOf
) -> None:
    response = client_of(alice).post(f"{URL}{fix_set.pk}/exports/", {"format": "exe"})
    assert response.status_code == 400
    assert "Unknown format" in response.content.decode()
    assert not Export.objects.exists()


def test_the_download_has_a_safe_name_and_every_row(
    fix_set: FixSet, alice: User, client_of: ClientOf
) -> None:
    export = run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    response = client_of(alice).get(f"{URL}{fix_set.pk}/exports/{export.pk}/")

    name = f"cats-dogs-unicode-{fix_set.digest[:8]}.csv"
    assert response.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    text = b"".join(response.streaming_content).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["sample_key"] for row in rows] == sorted(
        item.sample_key for item in fix_set.items.all()
    )
    assert sorted(row["label"] for row in rows) == ["cat", "cat", "fox"]


def test_an_unfinished_or_lost_export_says_so(
    fix_set: FixSet, alice: User, client_of: ClientOf
) -> None:
    export = request_export(fix_set=fix_set, format="csv", by=alice)
    client = client_of(alice)
    url = f"{URL}{fix_set.pk}/exports/{export.pk}/"
    assert "There is no file to download" in client.get(url).content.decode()

    name = run_export(export=export).file
    default_storage.delete(name)
    for put_in_its_place in (lambda: None, Path(default_storage.path(name)).mkdir):
        put_in_its_place()
        lost = client.get(url)
        assert lost.status_code == 404
        assert "export it again" in lost.content.decode()


def test_another_teams_fix_set_and_export_are_not_found(
    fix_set: FixSet, alice: User, charlie: User, client_of: ClientOf
) -> None:
    export = run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    client = client_of(charlie)
    for start in (URL, "/datasets/other/fixsets/"):
        assert client.get(f"{start}{fix_set.pk}/").status_code == 404
        assert client.post(f"{start}{fix_set.pk}/exports/").status_code == 404
        url = f"{start}{fix_set.pk}/exports/{export.pk}/"
        assert client.get(url).status_code == 404


def test_an_export_of_another_fix_set_is_not_found(
    fix_set: FixSet, alice: User, client_of: ClientOf
) -> None:
    other = freeze_fix_set(
        dataset=fix_set.dataset, name="b", findings=Finding.objects.all(), by=alice
    )
    export = run_export(export=request_export(fix_set=other, format="csv", by=alice))
    url = f"{URL}{fix_set.pk}/exports/{export.pk}/"
    assert client_of(alice).get(url).status_code == 404


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
    # Session, user, data set, fix set, exports, role, four counts, items.
    assert small == queries(f"{URL}{large.pk}/") == 11


def test_the_empty_list_says_what_to_do(rita: User, client_of: ClientOf, world) -> None:
    html = client_of(rita).get(URL).content.decode()
    assert "No fix set yet" in html
    assert "New fix set" not in html
