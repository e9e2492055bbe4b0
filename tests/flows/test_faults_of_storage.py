"""The storage fails, once, always or because it is full; what can be resumed is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reviewapp.actions.scans import resume_scan
from reviewapp.models import Scan, Shard
from tests.flows.facts import facts, files
from tests.flows.plant import Plant, check_undisturbed
from tests.flows.saboteur import order

pytestmark = [pytest.mark.xdist_group("faults"), pytest.mark.timeout(300)]

TWO_SHARDS = {"shard_size": 120}
ON_DISK = {
    "HARDMINE_STORAGE": "django.core.files.storage.FileSystemStorage",
    "HARDMINE_STORAGE_OPTIONS": "{}",
}


def run(plant: Plant, **options: object) -> Scan:
    plant.man(1)
    scan = plant.start(**options)
    plant.send(scan)
    plant.await_end(scan)
    return scan


def resume(plant: Plant, scan: Scan) -> None:
    resume_scan(scan=scan, by=plant.staff)
    plant.send(scan)
    plant.await_end(scan)


def test_a_storage_that_fails_once_for_every_file(plant):
    plant.reference()
    order(plant.orders, "fail", "save", "-1.parquet", standing=True)  # first attempts
    order(plant.orders, "fail", "save", "outcomes")
    scan = run(plant)
    assert {path.suffix for path in plant.orders.iterdir()} == {".order"}
    assert len(list(plant.orders.iterdir())) == 1  # the artefact's was carried out
    assert set(scan.shards.values_list("failures", flat=True)) == {1}
    check_undisturbed(plant, scan)


def test_a_part_that_never_succeeds_leaves_a_partial_scan_that_can_be_resumed(plant):
    reference = plant.reference()
    standing = order(plant.orders, "fail", "save", "part-000004", standing=True)
    scan = run(plant)

    assert scan.state == Scan.State.PARTIAL
    (bad,) = scan.shards.exclude(state=Shard.State.DONE)
    assert (bad.state, bad.number) == (Shard.State.QUARANTINED, 4)
    assert (bad.attempts, bad.failures, bad.losses) == (3, 3, 0)
    assert "the storage broke down" in bad.message
    for words in (
        "1 of 20 parts",
        "12 of 240 samples",
        "Part 5",
        "broke down",
        "resume",
    ):
        assert words in scan.message
    found = facts(scan)
    covered = range(bad.first_sample, bad.last_sample + 1)
    for name in ("findings", "sightings", "unreadable"):
        expected = [row for row in reference[name] if row[0] not in covered]
        assert found[name] == expected
        assert len(expected) < len(reference[name]) or name == "unreadable"
    assert sum(n for *_, n in found["counts"]) == 240 - 12 - len(found["unreadable"])
    assert found["ledger"] == found["history"] == []

    standing.unlink()
    resume(plant, scan)
    check_undisturbed(plant, scan, but="events")
    assert facts(scan)["events"] == [
        "scan started",
        "scan partial",
        "scan resumed",
        "scan done",
    ]


@pytest.fixture
def full_disk(plant) -> Iterator[Path]:
    """A disk for the artefacts of scans, full; yields the file that fills it."""
    plant.reference(**TWO_SHARDS)
    plant.dismiss()
    folder = plant.var / "media" / "scans"
    aside = folder.rename(folder.with_name("aside"))
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = not subprocess.run(mount, capture_output=True, check=False).returncode
    if mounted:
        ballast = folder / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        yield ballast
        plant.dismiss()
        subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()
    aside.rename(folder)
    if not mounted:
        pytest.skip("only root may mount a small disk")


def test_a_full_disk_fails_the_scan_with_the_reason_and_it_can_be_resumed(
    plant, full_disk
):
    plant.dismiss()
    plant.hire(**ON_DISK)
    scan = plant.start(**TWO_SHARDS)
    plant.send(scan)
    plant.await_end(scan, workers=None)
    assert scan.state == Scan.State.FAILED
    assert set(scan.shards.values_list("state", "failures")) == {("quarantined", 3)}
    for words in ("2 of 2 parts", "240 of 240 samples", "disk is full", "resume"):
        assert words in scan.message
    assert facts(scan)["findings"] == facts(scan)["sightings"] == []
    assert files(scan) == []  # nothing half-written

    full_disk.unlink()
    resume_scan(scan=scan, by=plant.staff)
    plant.send(scan)
    plant.await_end(scan, workers=None)
    check_undisturbed(plant, scan, but="events", **TWO_SHARDS)


def test_an_artefact_that_does_not_fit_is_written_when_there_is_room(plant):
    reference = plant.reference(**TWO_SHARDS)
    plant.dismiss()
    limit = len(reference["artefact"]) * 3 // 4  # each part is about half of it
    plant.hire(file_limit=limit, LOG_LEVEL="ERROR", **ON_DISK)
    scan = plant.start(**TWO_SHARDS)
    plant.send(scan)
    plant.await_that(scan, lambda: scan.state == Scan.State.FINISHING)
    assert plant.shards_done(scan) == 2
    plant.await_that(scan, lambda: "could not be" in scan.message)
    assert "outcomes.parquet" not in files(scan)

    plant.dismiss()  # with room, the sweep ends it by itself
    plant.await_end(scan)
    check_undisturbed(plant, scan, **TWO_SHARDS)
