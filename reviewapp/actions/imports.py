"""Importing predictions made elsewhere: asking for it, and who may go on with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from django.conf import settings as conf
from django.core.files import File
from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone

from mining.predictions import Report, detect_format
from mining.text import storable
from mining.training.folds import MAX_FOLDS
from reviewapp.actions.scans import fail_scan, start_scan
from reviewapp.exceptions import AlreadyRunning, Refused
from reviewapp.models import (
    Dataset,
    Import,
    ModelVersion,
    RegisteredModel,
    Registration,
    Scan,
    Shard,
)
from reviewapp.models.events import record
from reviewapp.models.imports import ImportQuerySet
from reviewapp.models.leases import a_lease_ago
from reviewapp.storage import delete_files, store_bytes, store_file

if TYPE_CHECKING:
    from reviewapp.models import User

MAX_ATTEMPTS = 5  # a file that ended so many workers will end the next one too
SHARD_SIZE = 10_000
NAME_SHOWN = 200


def request_import(
    *,
    dataset: Dataset,
    file: File[Any],
    model: str,
    by: User | None,
    split: str = "",
    classes: Sequence[str] = (),
    near_miss_below: float = 0.6,
    allow_partial: bool = False,
    keep: bool = True,
    folds: int = 0,
) -> Import:
    """Queue a file of predictions; the caller enqueues `run_import`, or runs it.

    Args:
        dataset: Whose samples the predictions are for.
        file: With its name; the suffix and the content decide the format.
        model: The registered model they are a version of; a new name makes one.
        by: Who asks; None: the command line.
        split: The samples to cover; "": all.
        classes: Order of the probabilities where the file has no names.
        near_miss_below: As for a scan, 0-1.
        allow_partial: Whether to leave bad rows out instead of refusing the file.
        keep: Store the file until the import ends, so that any worker can read it.
        folds: Of out-of-fold predictions: how many models made them, 2-20; else 0.

    Raises:
        BadPredictions: The file is of no known format.
        AlreadyRunning: The data set is being registered.
        Refused: The model has no name, the file is too large, or `folds` out of range.
        ArtefactError: The storage could not take the file; nothing was queued.
    """
    name = model.strip()
    if not name or len(name) > 100 or name != storable(name):
        raise Refused("Give the model a name of at most 100 characters.")
    if folds and not 2 <= folds <= MAX_FOLDS:
        raise Refused(f"Name from 2 to {MAX_FOLDS} folds, not {folds}.")
    if file.size > conf.IMPORT_MAX_BYTES:
        raise Refused(
            f"The file has {file.size:,} bytes, more than the "
            f"{conf.IMPORT_MAX_BYTES:,} that this server takes. Parquet with 32-bit "
            "floats is the smallest."
        )
    if dataset.registrations.filter(state__in=Registration.ACTIVE).exists():
        raise AlreadyRunning(
            f"{dataset} is being registered. Import when that is done."
        )
    shown = storable(Path(file.name or "").name)[-NAME_SHOWN:]
    kind = detect_format(shown, cast("BinaryIO", file))
    with transaction.atomic():
        job = Import.objects.create(
            dataset=dataset,
            model_name=name,
            split=split,
            format=kind,
            file_name=shown,
            size=file.size,
            classes=list(classes),
            near_miss_below=near_miss_below,
            allow_partial=allow_partial,
            folds=folds,
            requested_by=by,
        )
        if keep:
            job.file = f"imports/{job.pk}/predictions.{kind}"
            job.save(update_fields=["file"])
            _store(job.file, file)
        record("import queued", job, dataset=dataset, actor=by, file=shown)
    return job


def _store(name: str, file: File[Any]) -> None:
    # Django writes a large upload to a file of its own, and keeps a small one in memory.
    path = getattr(file, "temporary_file_path", None)
    if path:
        store_file(name, Path(path()))
    else:
        store_bytes(name, file.read())


def claim_import(*, import_id: int) -> Import | None:
    """Take a waiting import, or return None when it is not to be had."""
    with transaction.atomic():
        taken = Import.objects.filter(pk=import_id, state=Import.State.QUEUED).update(
            state=Import.State.RUNNING,
            attempts=F("attempts") + 1,
            heartbeat_at=timezone.now(),
            progress=0,
            rows=0,
            message="",
        )
        found = Import.objects.with_names().filter(pk=import_id)
        return found.get() if taken else None


def beat_import(*, job: Import, **changes: float) -> bool:
    """Tell that the import's worker lives; return False when another one has it."""
    return bool(_held(job).update(heartbeat_at=timezone.now(), **changes))


def begin_import_scan(
    *, job: Import, report: Report, digest: str, registrations: int
) -> Scan:
    """Register the predictions as a version and start the scan they are the outcomes of.

    The same file is the same version. Both, and that they belong to the import, are
    written in one transaction.

    Args:
        job: As claimed; without a scan.
        report: What its check found; bad rows are to be left out.
        digest: SHA-256 of the file, in hex.
        registrations: How many registrations the data set had when the check began.

    Raises:
        AlreadyRunning: The data set is being registered, or the same predictions are
            being imported.
        Refused: The data set was registered again meanwhile, or another worker has the
            import.
    """
    dataset = job.dataset
    with transaction.atomic():
        version = _register(job, digest)
        scan = start_scan(
            dataset=dataset,
            version=version,
            split=job.split,
            trigger=Scan.Trigger.IMPORT,
            by=job.requested_by,
            settings={
                "near_miss_below": job.near_miss_below,
                "shard_size": SHARD_SIZE,
                "p_true": "bound" if report.top_k else "exact",
            },
            folds=job.folds,
        )
        # Starting the scan has locked the data set: from here on it stays as it is.
        if dataset.registrations.done().count() != registrations:
            raise Refused(
                f"{dataset} was registered again while the file was checked. Nothing was "
                "written; import the file again."
            )
        scan.message = _remarks(job, report)
        scan.save(update_fields=["message"])
        held = _held(job).update(
            scan=scan, sha256=digest, rows=report.rows, report=report.to_dict()
        )
        if not held:
            raise Refused("Another worker has this import.")
    job.scan = scan
    return scan


def _register(job: Import, digest: str) -> ModelVersion:
    # The row lock makes two imports take two numbers.
    Dataset.objects.select_for_update().get(pk=job.dataset_id)
    model, _ = RegisteredModel.objects.get_or_create(
        dataset=job.dataset, name=job.model_name
    )
    if known := model.versions.filter(digest=digest).first():
        return known
    last = model.versions.aggregate(last=Max("number"))["last"] or 0
    version = ModelVersion.objects.create(
        registered_model=model,
        number=last + 1,
        digest=digest,
        format=ModelVersion.Format.PREDICTIONS,
        classes=job.dataset.class_names(),
        preprocessing={},
        note=f"Imported from {job.file_name}.",
        created_by=job.requested_by,
    )
    record(
        "model version registered",
        version,
        dataset=job.dataset,
        actor=job.requested_by,
    )
    return version


def _remarks(job: Import, report: Report) -> str:
    """Return what a reader of the scan has to know about the file."""
    remarks = []
    if job.folds:
        remarks.append(
            f"Out-of-fold: {job.folds} models, each trained without the images it judges."
        )
    if report.order == "data set":
        remarks.append(
            f"{job.file_name} names no classes: its probabilities were taken in the order "
            "of the data set's classes."
        )
    if report.bounded:
        remarks.append(
            f"{report.bounded:,} samples have a true label that is not among the classes "
            "of their row. Their p(true) is the highest that the row allows, their loss "
            "the lowest."
        )
    if report.bad_rows:
        remarks.append(f"{report.bad_rows:,} bad rows were left out.")
    return " ".join(remarks)


def end_import(*, job: Import, state: Import.State, message: str = "") -> bool:
    """End an import that this worker holds, and forget its file; False: another has it.

    A scan that it began and that is still active fails with it.
    """
    with transaction.atomic():
        held = _held(job).update(
            state=state, message=message, finished_at=timezone.now(), progress=1
        )
        if not held:
            return False
        if job.scan and state != Import.State.DONE:
            fail_scan(scan=job.scan, message=f"The import ended: {message}")
        record(
            f"import {state}",
            job,
            dataset=job.dataset,
            actor=job.requested_by,
            **({"why": message} if message else {}),
        )
    _forget_file(job)
    return True


def refuse_import(*, job: Import, report: Report, digest: str) -> bool:
    """End an import whose file has bad rows: nothing was written but the report."""
    found = "; ".join(report.sentences()) or "no row"
    advice = "Mend the file"
    if report.rows > report.bad_rows:
        advice += ", or allow a partial import, which leaves these out"
    message = f"{found}. Nothing was imported. {advice}."
    _held(job).update(sha256=digest, rows=report.rows, report=report.to_dict())
    return end_import(job=job, state=Import.State.REFUSED, message=message)


def retry_import(*, job: Import, message: str) -> bool:
    """Give an import back after an error that may pass; return whether it waits again.

    Without a stored file, or after too many attempts, it fails.
    """
    if not job.file or job.attempts >= MAX_ATTEMPTS:
        end_import(job=job, state=Import.State.FAILED, message=message)
        return False
    return bool(_held(job).update(state=Import.State.QUEUED, message=message))


def abandon_import(*, import_id: int, message: str) -> None:
    """End an import whose process stops in the middle of it."""
    for job in Import.objects.with_names().filter(pk=import_id):
        end_import(job=job, state=Import.State.FAILED, message=message)


def requeue_silent_imports() -> list[int]:
    """Give the imports of dead workers back and return the ids to enqueue again.

    Those that wait longer than a lease are among them: their message may be lost. One that
    a command ran in its own process has no file to go on with, and fails.
    """
    for job in Import.objects.ended().exclude(file=""):
        _forget_file(job)  # its worker died before it could
    lost = a_lease_ago()
    silent = Import.objects.filter(state=Import.State.RUNNING, heartbeat_at__lt=lost)
    for job in silent.with_names():
        retry_import(
            job=job,
            message=f"Its worker has not been heard of since {job.heartbeat_at:%H:%M}. "
            "Import the file again.",
        )
    abandoned = Import.objects.filter(state=Import.State.QUEUED, created_at__lt=lost)
    return list(abandoned.exclude(file="").order_by("pk").values_list("pk", flat=True))


def _held(job: Import) -> ImportQuerySet:
    return Import.objects.filter(
        pk=job.pk, state=Import.State.RUNNING, attempts=job.attempts
    )


def _forget_file(job: Import) -> None:
    if job.file:
        delete_files([job.file])
        Import.objects.filter(pk=job.pk).update(file="")


def take_back_shard(*, shard_id: int) -> None:
    """Let a shard of an import be claimed again that a dead worker still holds.

    Only for whoever has claimed the import: it has one worker alone.
    """
    Shard.objects.filter(pk=shard_id, state=Shard.State.RUNNING).update(
        state=Shard.State.QUEUED
    )
