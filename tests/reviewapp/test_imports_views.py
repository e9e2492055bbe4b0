"""Importing through the pages: who may, what they see while it runs and afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reviewapp.importing import run_import
from reviewapp.models import Dataset, Import, Label, Scan, User
from reviewapp.uploads import LimitedUploadHandler
from reviewapp.views import imports as views
from tests import factories

ClientOf = Callable[[User], Client]
NEW = reverse("import-new", args=["animals"])
GOOD = b"key,cat,dog,fox\na.png,0.25,0.75,0\nb.png,0,1,0\n"
BAD = b"key,cat,dog,fox\na.png,0.25,0.75,0.5\nb.png,0,1,0\n<b>.png,0,1,0\n"


@pytest.fixture(autouse=True)
def samples(labels: list[Label]) -> None:
    for n, key in enumerate(("a.png", "b.png")):
        factories.SampleFactory(label=labels[n], key=key)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Import]:
    jobs: list[Import] = []
    monkeypatch.setattr(views, "enqueue_import", jobs.append)
    return jobs


def form(
    data: bytes = GOOD, name: str = "p.csv", **fields: object
) -> dict[str, object]:
    file = SimpleUploadedFile(name, data)
    return {"file": file, "model": "remote", "near_miss_below": "0.6"} | fields


def upload(client: Client, *args: object, **fields: object) -> Import:
    response = client.post(NEW, form(*args, **fields))
    job = Import.objects.order_by("-id")[0]
    assert response.status_code == 302
    assert response.headers["Location"] == page_of(job)
    return job


def page_of(job: Import) -> str:
    return reverse("import-detail", args=["animals", job.pk])


def test_a_lead_uploads_a_file_and_gets_a_scan(
    dataset: Dataset, lena: User, client_of: ClientOf, sent: list[Import]
) -> None:
    client = client_of(lena)
    assert (
        "Import predictions" in client.get(reverse("scan-list", args=["animals"])).text
    )
    assert client.get(NEW).status_code == 200
    job = upload(client, split="test")
    assert sent == [job]
    assert (job.requested_by, job.size, job.split) == (lena, len(GOOD), "test")

    assert "Waiting for a worker" in client.get(page_of(job)).text
    run_import(import_id=job.pk)
    page = client.get(page_of(job)).text
    scan = Scan.objects.get()
    assert "2 rows became" in page
    assert reverse("scan-detail", args=["animals", scan.pk]) in page
    for name, args in (
        ("scan-list", []),
        ("scan-detail", [scan.pk]),
        ("model-list", []),
        ("model-detail", [scan.model_version.registered_model_id]),
        ("dataset-detail", []),
        ("scan-new", []),
        ("schedule-list", []),
        ("confusion-list", []),
        ("history", []),
        ("review", []),
        ("finding-list", []),
    ):
        assert client.get(reverse(name, args=["animals", *args])).status_code in (
            200,
            302,
        )
    assert "p.csv" in client.get(NEW).text


def test_a_refused_file_shows_its_report(
    dataset: Dataset, lena: User, client_of: ClientOf
) -> None:
    client = client_of(lena)
    job = upload(client, BAD)
    run_import(import_id=job.pk)
    page = client.get(page_of(job)).text
    assert "1 row: wrong sum" in page
    assert "the probabilities sum to 1.5, not 1" in page
    assert "&lt;b&gt;.png" in page
    assert "<b>" not in page
    response = client.get(reverse("import-report", args=["animals", job.pk]))
    assert response.headers["Content-Disposition"] == (
        f'attachment; filename="import-{job.pk}-report.json"'
    )
    report = json.loads(response.content)
    assert report["counts"] == {"wrong sum": 1, "unknown key": 1}
    job = upload(client, BAD, allow_partial="on")
    run_import(import_id=job.pk)
    assert (
        "2 bad rows were left out"
        in client.get(
            reverse("scan-detail", args=["animals", Scan.objects.get().pk])
        ).text
    )


def test_the_page_polls_until_the_import_ended(
    dataset: Dataset, lena: User, client_of: ClientOf
) -> None:
    client = client_of(lena)
    job = upload(client)
    Import.objects.update(state="running", progress=0.5, rows=1000)
    response = client.get(page_of(job), headers={"HX-Request": "true"})
    assert response.status_code == 200
    assert "1,000 rows read" in response.text.replace("\u202f", ",").replace(
        "\xa0", ","
    )
    assert "hx-get" in response.text
    Import.objects.update(state="failed", message="it broke")
    response = client.get(page_of(job), headers={"HX-Request": "true"})
    assert response.status_code == 286
    assert "it broke" in response.text


def test_a_page_costs_few_queries_however_many_imports(
    dataset: Dataset, lena: User, client_of: ClientOf
) -> None:
    client = client_of(lena)
    counts = []
    for n in (3, 20):
        Import.objects.bulk_create(
            Import(dataset=dataset, format="csv", file_name="p.csv", model_name="m")
            for _ in range(n)
        )
        with CaptureQueriesContext(connection) as found:
            assert client.get(NEW).status_code == 200
        counts.append(len(found))
    assert counts[0] == counts[1]


def test_only_leads_import(
    dataset: Dataset, rita: User, charlie: User, lena: User, client_of: ClientOf
) -> None:
    assert client_of(rita).get(NEW).status_code == 403
    assert client_of(rita).post(NEW, form()).status_code == 403
    assert client_of(charlie).post(NEW, form()).status_code == 404
    assert not Import.objects.exists()
    job = upload(client_of(lena))
    assert client_of(rita).get(page_of(job)).status_code == 200
    assert client_of(charlie).get(page_of(job)).status_code == 404


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"file": ""}, "This field is required."),
        ({"file": SimpleUploadedFile("p.csv", b"")}, "The submitted file is empty."),
        ({"file": SimpleUploadedFile("p.pkl", b"x")}, "must end in .parquet"),
        ({"file": SimpleUploadedFile("p.npz", GOOD)}, "its content is not npz"),
        ({"model": " "}, "This field is required."),
        ({"near_miss_below": "2"}, "less than or equal to 1"),
        ({"split": "night"}, "Select a valid choice"),
        ({"classes": SimpleUploadedFile("c.json", b"{}")}, "list of class names"),
    ],
)
def test_it_says_what_is_wrong_with_the_form(
    dataset: Dataset,
    lena: User,
    client_of: ClientOf,
    fields: dict[str, object],
    problem: str,
) -> None:
    response = client_of(lena).post(NEW, form() | fields)
    assert response.status_code == 200
    assert problem in response.text
    assert not Import.objects.exists()


def test_a_hostile_name_is_shown_and_never_used(
    dataset: Dataset, lena: User, client_of: ClientOf
) -> None:
    job = upload(client_of(lena), name="..\\..\\<script>alert(1)</script>.csv")
    assert job.file == f"imports/{job.pk}/predictions.csv"
    assert "<script>alert" not in client_of(lena).get(page_of(job)).text


def test_a_class_order_comes_with_the_file(
    dataset: Dataset, lena: User, client_of: ClientOf
) -> None:
    order = SimpleUploadedFile("c.json", b'["fox", "dog", "cat"]')
    job = upload(client_of(lena), classes=order)
    assert job.classes == ["fox", "dog", "cat"]


def test_a_body_over_the_limit_is_not_read(
    dataset: Dataset, lena: User, client_of: ClientOf, settings
) -> None:
    settings.IMPORT_MAX_BYTES = 1000
    handler = LimitedUploadHandler()
    with pytest.raises(RequestDataTooBig, match="more than the 1,000"):
        handler.handle_raw_input(None, {}, 1000 + 2**20 + 1, "b")
    assert handler.handle_raw_input(None, {}, 1000 + 2**20, "b") is None
    response = client_of(lena).post(NEW, form(b"x" * (2 * 2**20)))
    assert response.status_code in (400, 413)
    assert not Import.objects.exists()
