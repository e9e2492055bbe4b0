"""Exports in the browser: asked for, watched, downloaded."""

from __future__ import annotations

import csv
import io
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.test import Client

from reviewapp import tasks
from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.celery import app
from reviewapp.models import Export, Finding, FixSet, User, Verdict
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


def test_one_list_offers_every_format_and_says_what_it_is_for(
    fix_set: FixSet, alice: User, rita: User, client_of: ClientOf
) -> None:
    url = f"{URL}{fix_set.pk}/"
    html = client_of(alice).get(url).content.decode()
    for value, name, use in Export.formats_and_uses():
        assert f'<option value="{value}">{name}: {use}</option>' in html
    assert "<option value=" not in client_of(rita).get(url).content.decode()


@pytest.mark.parametrize(
    ("kind", "manifest", "name"),
    [
        ("labelstudio", "", "labelstudio.zip"),
        ("coco", "", "coco.json"),
        ("manifest", "", "manifest.csv"),
        ("manifest", "all.JSONL", "manifest.jsonl"),
    ],
)
def test_a_download_is_named_after_its_format(
    fix_set: FixSet, alice: User, kind: str, manifest: str, name: str
) -> None:
    fix_set.dataset.manifest = manifest
    export = request_export(fix_set=fix_set, format=kind, by=alice)
    assert export.file_name == f"cats-dogs-unicode-{fix_set.digest[:8]}-{name}"


def test_an_export_that_cannot_be_made_is_said_on_the_page(
    fix_set: FixSet, alice: User, client_of: ClientOf
) -> None:
    response = client_of(alice).post(f"{URL}{fix_set.pk}/exports/", {"format": "patch"})
    assert response.status_code == 400
    assert "no manifest" in response.content.decode()
    assert not Export.objects.exists()
