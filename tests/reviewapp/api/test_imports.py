"""Imports through the API: upload, poll, report."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from reviewapp.api import imports as api
from reviewapp.importing import run_import
from reviewapp.models import Dataset, Import, Label, User
from tests import factories

ApiOf = Callable[[User], APIClient]
URL = "/api/datasets/animals/imports/"
GOOD = b"key,cat,dog,fox\na.png,0.25,0.75,0\nb.png,0,1,0\n"


@pytest.fixture(autouse=True)
def samples(dataset: Dataset, labels: list[Label]) -> None:
    for n, key in enumerate(("a.png", "b.png")):
        factories.SampleFactory(label=labels[n], key=key)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Import]:
    jobs: list[Import] = []
    monkeypatch.setattr(api, "enqueue_import", jobs.append)
    return jobs


def body(data: bytes = GOOD, **fields: object) -> dict[str, object]:
    return {"file": SimpleUploadedFile("p.csv", data), "model": "remote"} | fields


def test_scripts_import_from_upload_to_scan(
    lena: User, api_of: ApiOf, sent: list[Import]
) -> None:
    client = api_of(lena)
    fields = {"near_miss_below": "0.9", "allow_partial": "true", "split": "test"}
    response = client.post(URL, body(**fields), format="multipart")
    assert response.status_code == 202
    answer = response.json()
    assert sent == [Import.objects.get(pk=answer["id"])]
    assert (answer["state"], answer["model"]) == ("queued", "remote")
    assert (answer["format"], answer["file_name"]) == ("csv", "p.csv")
    assert (answer["near_miss_below"], answer["allow_partial"]) == (0.9, True)

    run_import(import_id=answer["id"])
    answer = client.get(f"{URL}{answer['id']}/").json()
    assert (answer["state"], answer["rows"], answer["progress"]) == ("done", 2, 1)
    assert answer["report"]["counts"] == {}
    scan = client.get(f"/api/datasets/animals/scans/{answer['scan']}/").json()
    assert (scan["trigger"], scan["correct"], scan["errors"]) == ("import", 1, 1)
    assert [row["id"] for row in client.get(URL).json()["results"]] == [answer["id"]]


def test_a_refused_file_has_a_report(lena: User, api_of: ApiOf) -> None:
    client = api_of(lena)
    data = GOOD.replace(b"a.png", b"owl.png")
    job = client.post(URL, body(data), format="multipart").json()
    run_import(import_id=job["id"])
    job = client.get(f"{URL}{job['id']}/").json()
    assert (job["state"], job["scan"]) == ("refused", None)
    assert job["report"]["counts"] == {"unknown key": 1, "no prediction": 1}
    (listed,) = job["report"]["listed"]["unknown key"]
    assert (listed["row"], listed["key"]) == (1, "owl.png")


def test_the_order_of_the_classes_is_a_repeated_field(
    lena: User, api_of: ApiOf
) -> None:
    fields = {"classes": ["fox", "dog", "cat"]}
    job = api_of(lena).post(URL, body(**fields), format="multipart").json()
    assert Import.objects.get(pk=job["id"]).classes == ["fox", "dog", "cat"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"file": ""}, "file"),
        ({"file": "p.csv"}, "file"),
        ({"file": SimpleUploadedFile("p.csv", b"")}, "file"),
        ({"model": ""}, "model"),
        ({"split": "night"}, "split"),
        ({"near_miss_below": "nan"}, "near_miss_below"),
        ({"near_miss_below": "1.1"}, "near_miss_below"),
        ({"allow_partial": "maybe"}, "allow_partial"),
        ({"path": "/etc/passwd"}, "path"),
    ],
)
def test_it_names_the_field_that_is_wrong(
    lena: User, api_of: ApiOf, fields: dict[str, object], field: str
) -> None:
    response = api_of(lena).post(URL, body(**fields), format="multipart")
    assert response.status_code == 400
    assert field in response.json()
    assert not Import.objects.exists()


def test_content_of_another_kind_is_refused(lena: User, api_of: ApiOf) -> None:
    file = SimpleUploadedFile("p.parquet", GOOD)
    response = api_of(lena).post(URL, body() | {"file": file}, format="multipart")
    assert response.status_code == 400
    assert "its content is not parquet" in response.text
    assert not Import.objects.exists()


def test_a_body_without_a_file_is_refused(lena: User, api_of: ApiOf) -> None:
    response = api_of(lena).post(URL, {"model": "remote"}, format="json")
    assert response.status_code == 415


def test_only_leads_import(
    rita: User, charlie: User, lena: User, api_of: ApiOf
) -> None:
    assert api_of(rita).post(URL, body(), format="multipart").status_code == 403
    assert api_of(charlie).post(URL, body(), format="multipart").status_code == 404
    assert not Import.objects.exists()
    job = api_of(lena).post(URL, body(), format="multipart").json()
    assert api_of(rita).get(f"{URL}{job['id']}/").status_code == 200
    assert api_of(charlie).get(f"{URL}{job['id']}/").status_code == 404
