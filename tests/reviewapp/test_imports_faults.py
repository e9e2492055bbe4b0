"""Imports that are killed, taken over, cancelled or sent again: nothing is counted twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.db import OperationalError
from django.utils import timezone

from mining.exceptions import ArtefactError
from reviewapp import checking, importing, tasks
from reviewapp.actions import imports as actions
from reviewapp.actions.imports import (
    abandon_import,
    requeue_silent_imports,
)
from reviewapp.actions.scans import cancel_scan, resume_scan
from reviewapp.actions.shards import forgotten_shards, requeue_silent_shards
from reviewapp.exceptions import Refused
from reviewapp.importing import run_import
from reviewapp.models import (
    Dataset,
    Finding,
    Import,
    ModelVersion,
    Sample,
    Scan,
    Shard,
    Sighting,
    User,
)
from tests import factories
from tests.reviewapp.test_imports import (
    artefact_of,
    ask,
    import_rows,
    run,
    samples,
    small_shards,
)

__all__ = ["samples", "small_shards"]


def stop_at(
    monkeypatch: pytest.MonkeyPatch, name: str, call: int, error: BaseException
) -> None:
    """Let one of the steps of an import end with an error at its n-th call, once."""
    step = getattr(importing, name)
    calls = iter(range(1, 1000))

    def stopping(**kwargs: object) -> object:
        if next(calls) == call:
            raise error
        return step(**kwargs)

    monkeypatch.setattr(importing, name, stopping)


class Killed(BaseException):
    """What `kill -9` leaves: nothing is tidied up."""


def lose(job: Import) -> None:
    """Let the lease of a job run out."""
    Import.objects.filter(pk=job.pk).update(
        heartbeat_at=timezone.now() - timedelta(hours=1),
        created_at=timezone.now() - timedelta(hours=2),
    )


STEPS = [
    ("begin_import_scan", 1),
    ("claim_shard", 1),
    ("store_part", 1),
    ("record_shard", 1),
    ("record_shard", 3),
    ("finish_scan", 1),
    ("end_import", 1),
]


@pytest.mark.parametrize(("step", "call"), STEPS)
def test_a_killed_import_goes_on_and_counts_nothing_twice(
    dataset: Dataset,
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    call: int,
) -> None:
    undisturbed = import_rows(dataset, model="undisturbed")
    job = ask(dataset)
    with monkeypatch.context() as patch:
        stop_at(patch, step, call, Killed())
        with pytest.raises(Killed):
            run_import(import_id=job.pk)
    assert requeue_silent_imports() == []  # its lease still runs
    lose(job)
    assert requeue_silent_imports() == [job.pk]
    ended = run(job)
    assert ended.state == Import.State.DONE, ended.message
    assert ended.attempts == 2
    scan = ended.scan
    assert scan is not None
    assert Scan.objects.count() == 2
    assert artefact_of(scan) == artefact_of(undisturbed)
    facts = ("correct", "errors", "near_misses", "unreadable")
    assert [getattr(scan, f) for f in facts] == [getattr(undisturbed, f) for f in facts]
    assert Finding.objects.filter(registered_model__name="remote").count() == 2
    assert Sighting.objects.filter(scan=scan).count() == 2
    _, parts = default_storage.listdir(f"scans/{scan.pk}")
    assert parts == ["outcomes.parquet"]


def test_an_import_that_another_worker_took_over_writes_nothing(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    check = checking.leave_out_duplicates

    def frozen(limit: int) -> object:
        Import.objects.filter(pk=job.pk).update(attempts=2)  # it woke up too late
        return check(limit)

    monkeypatch.setattr(checking, "leave_out_duplicates", frozen)
    ended = run(job)
    assert (ended.state, ended.scan) == (Import.State.RUNNING, None)
    assert not Scan.objects.exists()


def test_the_storage_may_fail_once(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "store_part", 2, ArtefactError("the store is away"))
    ended = run(job)
    assert (ended.state, ended.message) == ("queued", "the store is away")
    lose(job)
    assert requeue_silent_imports() == [job.pk]
    ended = run(job)
    assert ended.state == Import.State.DONE, ended.message
    assert ended.scan is not None
    assert (ended.scan.correct, ended.scan.errors) == (5, 1)


def test_an_import_fails_after_too_many_attempts(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_ATTEMPTS", 2)
    job = ask(dataset)
    for state in ("queued", "failed"):
        stop_at(monkeypatch, "store_part", 1, ArtefactError("the store is away"))
        assert run(job).state == state
    scan = Scan.objects.get()
    assert scan.state == Scan.State.FAILED
    assert scan.message == "The import ended: the store is away"
    assert not default_storage.exists(f"imports/{job.pk}/predictions.csv")


def test_without_the_database_the_lease_decides(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "store_part", 1, OperationalError("gone"))
    with pytest.raises(OperationalError):
        run_import(import_id=job.pk)
    job.refresh_from_db()
    assert job.state == Import.State.RUNNING


def test_the_sweeps_of_shards_leave_an_import_alone(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "record_shard", 2, Killed())
    with pytest.raises(Killed):
        run_import(import_id=job.pk)
    long_ago = timezone.now() - timedelta(days=1)
    Scan.objects.update(created_at=long_ago)
    Shard.objects.exclude(state="queued").update(heartbeat_at=long_ago)
    assert requeue_silent_shards() == []
    assert forgotten_shards(messages=0) == []


def test_a_command_that_died_leaves_nothing_waiting(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset, keep=False)
    Import.objects.filter(pk=job.pk).update(state="running")
    lose(job)
    assert requeue_silent_imports() == []
    job.refresh_from_db()
    assert job.state == Import.State.FAILED
    assert job.message.endswith("Import the file again.")


def test_one_that_is_abandoned_takes_its_scan_along(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    stop_at(monkeypatch, "record_shard", 2, Killed())
    with pytest.raises(Killed):
        run_import(import_id=job.pk)
    abandon_import(import_id=job.pk, message="Interrupted.")
    job.refresh_from_db()
    assert job.state == Import.State.FAILED
    assert Scan.objects.get().state == Scan.State.FAILED


def test_cancelling_the_scan_ends_the_import(
    dataset: Dataset,
    samples: list[Sample],
    lena: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = ask(dataset)
    store = importing.store_part

    def cancelling(*, shard: Shard, **kwargs: object) -> None:
        store(shard=shard, **kwargs)
        if shard.number == 1:
            cancel_scan(scan=shard.scan, by=lena)

    monkeypatch.setattr(importing, "store_part", cancelling)
    ended = run(job)
    assert ended.state == Import.State.FAILED
    assert ended.scan is not None
    assert ended.scan.state == Scan.State.CANCELLED
    assert "Cancelled by lena" in ended.message
    with pytest.raises(Refused, match=r"[Ii]mport"):
        resume_scan(scan=ended.scan, by=lena)


def test_a_registration_meanwhile_ends_it(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ask(dataset)
    check = checking.index_rows

    def registering() -> None:
        check()
        factories.RegistrationFactory(dataset=dataset)

    monkeypatch.setattr(checking, "index_rows", registering)
    ended = run(job)
    assert ended.state == Import.State.FAILED
    assert "was registered again while the file was checked" in ended.message
    assert not Scan.objects.exists()
    assert not ModelVersion.objects.exists()


def test_the_sweep_sends_a_lost_import_to_a_worker(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(
        tasks.run_import, "apply_async", lambda args, **_: sent.extend(args)
    )
    job = ask(dataset)
    tasks.recover_lost_work()
    assert sent == []
    lose(job)
    tasks.recover_lost_work()
    assert sent == [job.pk]
    tasks.run_import(job.pk)
    assert Scan.objects.get().is_done


def test_the_sweep_removes_the_file_of_an_import_that_died_at_its_end(
    dataset: Dataset, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(names: object) -> None:
        raise Killed

    job = ask(dataset)
    with monkeypatch.context() as patch:
        patch.setattr(actions, "delete_files", killed)
        with pytest.raises(Killed):
            run_import(import_id=job.pk)
    assert default_storage.exists(job.file)
    assert requeue_silent_imports() == []
    assert not default_storage.exists(job.file)
    ended = Import.objects.get(pk=job.pk)
    assert (ended.state, ended.file) == (Import.State.DONE, "")
