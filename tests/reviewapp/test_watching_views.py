"""What people see of a scan: workers, parts, pictures of what could not be read."""

from __future__ import annotations

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from reviewapp.models import Scan, Shard, UnreadableSample
from reviewapp.thumbnails import thumbnail_name
from tests import factories

HTMX = {"HX-Request": "true"}
PACE = {
    "device": "cpu",
    "precision": "bfloat16",
    "lanes": 2,
    "batch_size": 16,
    "images": 10,
    "seconds": 1.0,
    "model_s": 1.5,
    "decode_s": 0.5,
    "memory_mb": 2048,
}


def page_of(scan: Scan, name: str = "scan-detail", *more: object) -> str:
    return reverse(name, args=["animals", scan.pk, *more])


def queries(client, address, **options) -> int:
    with CaptureQueriesContext(connection) as found:
        assert client.get(address, **options).status_code == 200
    return len(found)


@pytest.fixture
def samples(labels):
    return [factories.SampleFactory(label=labels[0]) for _ in range(5)]


@pytest.fixture
def scan(version, samples):
    """10,000 samples; one part runs, one is quarantined, one was lost once."""
    scan = factories.ScanFactory(
        model_version=version,
        state=Scan.State.RUNNING,
        samples=10_000,
        correct=None,
        errors=None,
        near_misses=None,
        unreadable=None,
        started_at=timezone.now(),
    )
    now = timezone.now()
    ends = {"first_sample": samples[0].pk, "last_sample": samples[4].pk}
    factories.ShardFactory(
        scan=scan,
        samples=5,
        state=Shard.State.QUARANTINED,
        attempts=3,
        failures=3,
        worker="east:1",
        message="no <b>such</b> file",
        **ends,
    )
    factories.ShardFactory(
        scan=scan,
        number=1,
        samples=5000,
        samples_done=100,
        state=Shard.State.RUNNING,
        worker="west:2",
        started_at=now - timezone.timedelta(seconds=10),
        heartbeat_at=now,
        pace=PACE,
    )
    factories.ShardFactory(
        scan=scan, number=2, samples=4995, losses=1, attempts=1, message="west went"
    )
    return scan


@pytest.fixture
def partial(scan):
    """The same, ended: 9,800 of 10,000 samples are covered."""
    Shard.objects.filter(scan=scan).exclude(state="quarantined").delete()
    factories.ShardFactory(
        scan=scan,
        number=1,
        samples=9800,
        samples_done=9800,
        correct=9800,
        state=Shard.State.DONE,
        worker="west:2",
        pace=PACE,
    )
    Scan.objects.filter(pk=scan.pk).update(
        state=Scan.State.PARTIAL,
        correct=9700,
        errors=100,
        near_misses=7,
        unreadable=0,
        rechecked=214,
        changed=3,
        message="1 of 2 parts is missing.",
        finished_at=timezone.now(),
    )
    scan.refresh_from_db()
    return scan


def test_a_running_scan_shows_its_workers_and_its_trouble(scan, rita, client_of):
    html = client_of(rita).get(page_of(scan)).content.decode()
    assert "2 workers, 1 at it" in html
    assert "10.0 images/s, about 16 min 30 s left" in html
    assert "cpu, bfloat16" in html
    assert "2.0 GiB" in html
    assert (
        "What limits the speed: The model takes 75 % of the time of 2 threads" in html
    )
    assert "Failed 3 times, attempt 3: no &lt;b&gt;such&lt;/b&gt; file" in html
    assert "Lost 1 time, attempt 1: west went" in html
    assert html.index("Part&nbsp;1</a>") < html.index(
        "Part&nbsp;3</a>"
    )  # the worst first


def test_a_silent_worker_is_called_lost(scan, rita, client_of, settings):
    long_ago = timezone.now() - timezone.timedelta(
        seconds=settings.SHARD_LEASE_SECONDS + 5
    )
    scan.shards.filter(number=1).update(heartbeat_at=long_ago)
    html = client_of(rita).get(page_of(scan), headers=HTMX).content.decode()
    assert "tag--lost" in html
    assert "no worker at it now" in html


def test_more_workers_and_parts_cost_no_more_queries(scan, rita, client_of):
    client = client_of(rita)
    live = queries(client, page_of(scan), headers=HTMX)
    whole = queries(client, page_of(scan))
    Shard.objects.bulk_create(
        Shard(
            scan=scan,
            number=n,
            first_sample=n,
            last_sample=n,
            samples=1,
            state="running" if n % 2 else "queued",
            worker=f"w{n % 60}",
            heartbeat_at=timezone.now(),
            started_at=timezone.now(),
            message="slow disk",
        )
        for n in range(3, 203)
    )
    # session, user, data set, scan, states, workers, paces, troubled shards;
    # then role and reasons
    assert live == queries(client, page_of(scan), headers=HTMX) == 8
    assert whole == queries(client, page_of(scan)) == 10
    html = client.get(page_of(scan)).content.decode()
    assert "50 of 62 are shown" in html
    assert html.count("slow disk") <= 5


def test_a_partial_scan_says_what_it_covers_and_can_be_resumed(
    partial, rita, lena, client_of
):
    html = client_of(rita).get(page_of(partial)).content.decode()
    assert "1 of 2 parts is missing." in html
    assert "9,800 of 10,000 images" in html
    assert "1.0 % of 9,800 covered" in html
    assert (
        "214 close calls were computed again in float32; 3 predictions changed" in html
    )
    assert "(0.03 %)" in html
    assert "Top-1 accuracy" not in html
    assert "Resume</button>" not in html
    assert "Resume</button>" in client_of(lena).get(page_of(partial)).content.decode()


def test_a_lead_resumes(partial, lena, client_of, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks() as callbacks:
        response = client_of(lena).post(page_of(partial, "scan-resume"))
    assert response.url == page_of(partial)
    assert callbacks
    partial.refresh_from_db()
    assert partial.state == Scan.State.RUNNING
    assert partial.shards.counts_by_state() == {"done": 1, "queued": 1}
    again = client_of(lena).post(page_of(partial, "scan-resume"))
    assert again.status_code == 400
    assert client_of(lena).get(page_of(partial, "scan-resume")).status_code == 405


def test_imported_predictions_cannot_be_resumed(partial, version, lena, client_of):
    version.format = version.Format.PREDICTIONS
    version.save(update_fields=["format"])
    html = client_of(lena).get(page_of(partial)).content.decode()
    assert "Resume</button>" not in html
    assert "Scan again" not in html


def test_parts_are_listed_by_state_with_their_first_samples(
    scan, samples, rita, client_of
):
    client = client_of(rita)
    address = page_of(scan, "scan-parts")
    html = client.get(address, {"state": "quarantined"}).content.decode()
    assert "Part&nbsp;1</a>" in html
    assert "Part&nbsp;2</a>" not in html
    assert samples[2].key in html
    assert samples[3].key not in html
    assert "No part is in this state" in (
        client.get(address, {"state": "done"}).content.decode()
    )
    shards = [
        Shard(scan=scan, number=n, first_sample=0, last_sample=0, samples=1)
        for n in range(3, 110)
    ]
    before = queries(client, address)
    Shard.objects.bulk_create(shards)
    # session, user, data set, scan, states, parts with first keys
    assert before == queries(client, address) == 6
    shown = []
    after = None
    while after or not shown:
        page = client.get(address, {"after": after} if after else {}).context["page"]
        shown += [shard.number for shard in page.rows]
        assert len(page.rows) <= 50
        after = page.next
    assert shown == list(range(109, -1, -1))


def test_one_part_shows_its_samples_and_its_error(scan, samples, rita, client_of):
    client = client_of(rita)
    html = client.get(page_of(scan, "scan-part", 1)).content.decode()
    assert "no &lt;b&gt;such&lt;/b&gt; file" in html
    assert all(sample.key in html for sample in samples)
    for part in (0, 9, 10**17):
        assert client.get(page_of(scan, "scan-part", part)).status_code == 404


def test_unreadable_samples_are_grouped_and_have_pictures(
    scan, samples, rita, charlie, client_of
):
    digest = "ab" * 32
    default_storage.save(thumbnail_name(digest, "grid"), ContentFile(b"webp"))
    for n, sample in enumerate(samples):
        UnreadableSample.objects.create(
            scan=scan,
            sample=sample,
            reason="truncated & short" if n else "changed",
            digest="" if n else digest,
        )
    client = client_of(rita)
    html = client.get(page_of(scan)).content.decode()
    assert html.index("truncated &amp; short") < html.index("changed")
    assert "?reason=truncated%20%26%20short" in html
    image = page_of(scan, "scan-image", samples[0].pk, digest, "grid")
    assert image in html
    assert "no picture" in html
    assert client.get(image).getvalue() == b"webp"
    assert client_of(charlie).get(image).status_code == 404
    for wrong in (
        (samples[1].pk, digest, "grid"),
        (samples[0].pk, digest, "huge"),
        (samples[0].pk, "cd" * 32, "grid"),
        (samples[0].pk, digest, "focus"),  # was not made
    ):
        assert client.get(page_of(scan, "scan-image", *wrong)).status_code == 404

    address = page_of(scan, "scan-unreadable")
    assert len(client.get(address).context["page"].rows) == 5
    one = client.get(address, {"reason": "changed"})
    assert [row.sample for row in one.context["page"].rows] == [samples[0]]
    assert client.get(address, {"reason": "\0"}).status_code == 200


def test_a_scan_that_read_everything_says_so(scan, rita, client_of):
    html = client_of(rita).get(page_of(scan, "scan-unreadable")).content.decode()
    assert "could be read" in html
