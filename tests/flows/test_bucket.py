"""Two hosts that share PostgreSQL, the broker and a bucket, and nothing else.

The worker reads images and checkpoints from buckets that the web process, this one,
has no key for; the web process sees only the storage's bucket.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.urls import reverse
from PIL import Image

from mining.exceptions import MiningError, UnreadableImage
from mining.sources import files, open_source, read_bytes, sha256
from reviewapp.actions.exports import request_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.scans import start_scan
from reviewapp.models import (
    Dataset,
    Export,
    Finding,
    HeldItem,
    Registration,
    Scan,
    User,
    Verdict,
)
from reviewapp.tasks import enqueue_export, enqueue_scan
from tests import factories
from tests.buckets import Buckets, buckets
from tests.flows.worker import wait_for, worker
from tests.images import LEVELS, write_animals, write_brightness_model, write_image
from tests.reviewing import decide

ROOT = "s3://cells/animals"
# A "#", a "+", "::", an escape and an emoji are syntax to one layer or another.
ODD = "test/cat/#1 ä+b::c%41[x]*\\😀.png"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Buckets]:
    with buckets(tmp_path_factory.mktemp("buckets")) as server:
        yield server


def storage(server: Buckets, who: str) -> dict[str, object]:
    return {
        "bucket_name": "storage",
        "endpoint_url": server.endpoint,
        "access_key": who,
        "secret_key": "secret",
        "region_name": "us-east-1",
    }


def upload(server: Buckets, folder: Path, bucket: str, prefix: str = "") -> None:
    client = server.client()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            key = prefix + path.relative_to(folder).as_posix()
            client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    client.close()


@pytest.fixture
def truth(server: Buckets, tmp_path) -> dict[str, tuple[str, str]]:
    """Fill the buckets; return key -> (label, what the model will say)."""
    truth = write_animals(
        tmp_path / "data", right=4, wrong={("cat", "dog"): 3, ("fox", "dog"): 2}
    )
    write_image(tmp_path / "data" / ODD, LEVELS["fox"])
    truth[ODD.replace("\\", "\\\\")] = ("cat", "fox")
    upload(server, tmp_path / "data", "cells", "animals/")
    write_brightness_model(tmp_path / "models" / "m.onnx")
    upload(server, tmp_path / "models", "models")
    return truth


def worker_environment(server: Buckets) -> dict[str, str]:
    return server.environment("worker") | {
        "DJANGO_SETTINGS_MODULE": "tests.bucket_settings",
        "HARDMINE_STORAGE": "storages.backends.s3.S3Storage",
        "HARDMINE_STORAGE_OPTIONS": json.dumps(storage(server, "worker")),
    }


@contextmanager
def being_worker(server: Buckets) -> Iterator[None]:
    """Read the buckets from this process with the worker's key."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment("worker").items():
            patch.setenv(name, value)
        files._file_system.cache_clear()
        yield
    files._file_system.cache_clear()


@pytest.fixture
def web(server: Buckets, settings, db) -> Client:
    """A signed-in member of staff on a web host that cannot reach the images."""
    settings.DATA_ROOTS = ["s3://cells", "s3://forbidden"]
    settings.MODEL_ROOTS = ["s3://models"]
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "storages.backends.s3.S3Storage",
            "OPTIONS": storage(server, "web"),
        },
    }
    client = Client()
    client.force_login(
        factories.UserFactory(username="staff", is_staff=True),
        backend="reviewapp.sessions.People",
    )
    return client


def register(web: Client, name: str, root: str) -> Registration:
    response = web.post("/datasets/new/", {"name": name, "root": root})
    assert response.status_code == 302, response.content.decode()
    registration = Registration.objects.latest("id")
    return finished(registration)


def finished(row):
    """Wait for a registration, scan or export to end and return it as it is then."""
    model = type(row)
    wait_for(
        lambda: (
            not model.objects.filter(
                pk=row.pk, state__in=("queued", "running", "finishing")
            ).exists()
        ),
        seconds=60,
        every=0.1,
    )
    return model.objects.get(pk=row.pk)


def scan(dataset: Dataset) -> Scan:
    with transaction.atomic():
        started = start_scan(
            dataset=dataset,
            version=dataset.registered_models.get().versions.get(),
            trigger=Scan.Trigger.PAGE,
            by=User.objects.get(),
            settings={"batch_size": 4},
        )
        enqueue_scan(started)
    return finished(started)


def body(response) -> bytes:
    assert response.status_code == 200
    return b"".join(response.streaming_content)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.django_db(transaction=True)
def test_web_and_worker_share_nothing_but_the_bucket_of_the_storage(server, truth, web):
    with worker(**worker_environment(server)):
        dataset = check_registration(server, web, truth)
        first = check_scan(server, dataset, truth)
        check_pages(web, dataset, first)
        check_export(web, dataset)
        check_changes(server, web, dataset)
        check_refusal(web)
    assert not [line for line in server.requests() if line.startswith("web GET /cells")]


def check_registration(server, web, truth) -> Dataset:
    """Register on the worker by one GET of each image; then a model, by a command."""
    server.requests()
    registration = register(web, "Animals", ROOT)
    assert registration.state == "done", registration.message
    assert (registration.total, registration.unreadable) == (len(truth), 0)
    dataset = registration.dataset
    assert set(dataset.samples.values_list("key", flat=True)) == truth.keys()
    assert image_requests(server) == {"GET": len(truth)}
    with being_worker(server):
        call_command("register_model", "Animals", "net", "s3://models/m.onnx")
    return dataset


def image_requests(server: Buckets) -> Counter[str]:
    """Return how often each method was used on an image since the last call."""
    lines = [line.split(" ", 2) for line in server.requests()]
    return Counter(
        method for _, method, path in lines if path.startswith("/cells/animals/test/")
    )


def check_scan(server, dataset, truth) -> Scan:
    """Scan by one GET of each image, and find what the model was built to find."""
    server.requests()
    done = scan(dataset)
    assert done.state == Scan.State.DONE, done.message
    assert image_requests(server) == {"GET": len(truth)}
    found = {
        f.sample.key: (f.true_label.name, f.predicted_label.name)
        for f in Finding.objects.misclassified().select_related(
            "sample", "true_label", "predicted_label"
        )
    }
    assert found == {key: pair for key, pair in truth.items() if pair[0] != pair[1]}
    return done


def check_pages(web, dataset, done) -> None:
    """Show a finding with its pictures and send the outcomes of every sample."""
    finding = Finding.objects.misclassified().order_by("id")[0]
    page = f"/datasets/{dataset.slug}/findings/{finding.pk}/"
    response = web.get(page)
    assert response.status_code == 200
    formats = []
    for size in ("grid", "focus"):
        address = reverse(
            "finding-image", args=[dataset.slug, finding.pk, finding.digest, size]
        )
        assert size == "grid" or address in response.content.decode()
        with Image.open(io.BytesIO(body(web.get(address)))) as image:
            formats.append(image.format)
    assert formats == ["WEBP", "WEBP"]
    outcomes = body(web.get(f"/datasets/{dataset.slug}/scans/{done.pk}/outcomes/"))
    table = pq.read_table(pa.BufferReader(outcomes))
    assert table.num_rows == done.samples


def check_export(web, dataset) -> None:
    """Export confirmed findings with their images, which only the worker can read."""
    staff = User.objects.get()
    for finding in Finding.objects.misclassified():
        decide(
            finding=finding, by=staff, verdict=Verdict.CONFIRM, version=finding.version
        )
    fix_set = freeze_fix_set(
        dataset=dataset,
        name="first",
        findings=Finding.objects.all(),
        by=staff,
        include=HeldItem.Reason.values,
    )
    with transaction.atomic():
        export = request_export(fix_set=fix_set, format="zip", by=staff)
        enqueue_export(export)
    export = finished(export)
    assert export.state == Export.State.DONE, export.message
    address = reverse("export-download", args=[dataset.slug, fix_set.pk, export.pk])
    with zipfile.ZipFile(io.BytesIO(body(web.get(address)))) as archive:
        pictures = [name for name in archive.namelist() if name.endswith(".png")]
    assert len(pictures) == fix_set.size == 6


def check_changes(server, web, dataset) -> None:
    """Name what changed or is gone in a scan, and take it over when registered again."""
    client = server.client()
    other = io.BytesIO()
    Image.new("L", (8, 8), LEVELS["dog"]).save(other, "PNG")
    changed, gone = "test/cat/000.png", "test/cat/001.png"
    client.put_object(Bucket="cells", Key=f"animals/{changed}", Body=other.getvalue())
    client.delete_object(Bucket="cells", Key=f"animals/{gone}")
    client.close()
    before = scan(dataset)
    assert before.state == Scan.State.DONE, before.message
    reasons = dict(before.unreadable_samples.values_list("sample__key", "reason"))
    assert reasons.keys() == {changed, gone}
    assert "changed since it was registered" in reasons[changed]
    assert reasons[gone] == "the file does not exist"
    web.post(reverse("dataset-register", args=[dataset.slug]))
    again = finished(Registration.objects.latest("id"))
    assert (again.changed, again.removed, again.added) == (1, 1, 0), again.message
    after = scan(dataset)
    assert (after.unreadable, after.samples) == (0, before.samples - 1)
    assert Finding.objects.filter(sample__key=changed, sightings__scan=after).exists()


def check_refusal(web) -> None:
    """Say why a bucket cannot be registered: no right, no such folder."""
    refused = register(web, "Forbidden", "s3://forbidden/cells")
    assert refused.state == Registration.State.FAILED
    assert "s3://forbidden/cells cannot be listed" in refused.message
    assert "refused to this host" in refused.message
    assert "Its access key needs the right to list the bucket" in refused.message
    missing = register(web, "Missing", "s3://cells/nothing")
    assert "s3://cells/nothing cannot be listed" in missing.message


@pytest.fixture
def as_worker(server: Buckets) -> Iterator[Buckets]:
    with being_worker(server):
        yield server


def test_one_request_reads_an_object_from_any_thread(as_worker):
    client = as_worker.client()
    content = {f"many/{n}": bytes([n]) * (n + 1) for n in range(64)}
    for key, data in content.items():
        client.put_object(Bucket="cells", Key=key, Body=data)
    client.close()
    as_worker.requests()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda key: read_bytes(f"s3://cells/{key}"), content))
        hashed = list(pool.map(lambda key: sha256(f"s3://cells/{key}"), content))
    assert read == list(content.values())
    assert [size for _, size in hashed] == [n + 1 for n in range(64)]
    asked = Counter(line.split(" ")[1] for line in as_worker.requests())
    assert asked == {"GET": 2 * len(content)}


def test_a_forked_process_reads_by_connections_of_its_own(as_worker):
    client = as_worker.client()
    client.put_object(Bucket="cells", Key="fork", Body=b"one")
    client.close()
    assert read_bytes("s3://cells/fork") == b"one"
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(read_bytes, ("s3://cells/fork",)) == b"one"
    assert read_bytes("s3://cells/fork") == b"one"


def test_an_empty_and_a_large_object_are_read(as_worker, monkeypatch):
    monkeypatch.setattr(files, "_WHOLE", 1000)
    large = os.urandom(3000)
    client = as_worker.client()
    for key, data in (("empty", b""), ("large", large)):
        client.put_object(Bucket="cells", Key=key, Body=data)
    client.close()
    assert read_bytes("s3://cells/empty") == b""
    assert sha256("s3://cells/empty") == (hashlib.sha256().hexdigest(), 0)
    assert sha256("s3://cells/large") == (hashlib.sha256(large).hexdigest(), 3000)
    assert read_bytes("s3://cells/large", max_bytes=3000) == large
    with pytest.raises(UnreadableImage, match="larger than 2,999 bytes"):
        read_bytes("s3://cells/large", max_bytes=2999)


def test_a_missing_object_is_said_so(as_worker):
    with pytest.raises(FileNotFoundError):
        read_bytes("s3://cells/nothing.png")


def test_a_bucket_that_refuses_says_nothing_of_a_sample(as_worker):
    """A worker without the right must not make every sample unreadable."""
    for read in (read_bytes, sha256):
        with pytest.raises(ConnectionError, match="refused to this host"):
            read("s3://forbidden/a.png")
    with pytest.raises(MiningError, match=r"s3://forbidden/x cannot be listed.*right"):
        open_source("s3://forbidden/x")


def test_a_bucket_without_a_key_or_an_answer_is_said_so(as_worker, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # waits between them are botocore's
    files._file_system.cache_clear()
    with pytest.raises(ConnectionError, match=r"s3://cells cannot be reached.*connect"):
        read_bytes("s3://cells/a.png")
    files._file_system.cache_clear()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConnectionError, match=r"cannot be reached.*credentials"):
        read_bytes("s3://cells/a.png")


def test_a_listing_is_never_an_old_one(as_worker):
    client = as_worker.client()
    client.put_object(Bucket="cells", Key="fresh/cat/1.png", Body=b"1")
    assert len(list(open_source("s3://cells/fresh").entries())) == 1
    client.put_object(Bucket="cells", Key="fresh/cat/2.png", Body=b"2")
    client.close()
    assert len(list(open_source("s3://cells/fresh").entries())) == 2
