"""Celery's doors. Each task loads, returns if done already, and calls an action."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from celery import Task, current_app, shared_task
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from mining.exceptions import BadCheckpoint, ClassMismatch, MiningError
from reviewapp.actions.aids import make_aids, make_pictures_of, take_due
from reviewapp.actions.analyses import analyse_new_scans, requeue_silent_analyses
from reviewapp.actions.analyses import run_analysis as run_analysis_action
from reviewapp.actions.comparisons import requeue_silent_comparisons
from reviewapp.actions.comparisons import run_comparison as run_comparison_action
from reviewapp.actions.datasets import (
    requeue_silent_registrations,
)
from reviewapp.actions.datasets import run_registration as run_registration_action
from reviewapp.actions.deliveries import due_deliveries
from reviewapp.actions.finishing import finish_scan as finish_scan_action
from reviewapp.actions.finishing import is_ready_to_finish
from reviewapp.actions.fixsets import requeue_silent_exports
from reviewapp.actions.fixsets import run_export as run_export_action
from reviewapp.actions.imports import requeue_silent_imports
from reviewapp.actions.notices import forget_old_notices
from reviewapp.actions.ranking import fit_ranker as fit_ranker_action
from reviewapp.actions.ranking import models_to_fit
from reviewapp.actions.scans import (
    claim_shard,
    fail_shard,
    forgotten_shards,
    requeue_silent_shards,
    start_scan,
)
from reviewapp.actions.schedules import note_run
from reviewapp.actions.standings import fold_standings
from reviewapp.exceptions import HardmineError, plain_message
from reviewapp.importing import run_import as run_import_from_file
from reviewapp.models import (
    Analysis,
    Comparison,
    Delivery,
    Export,
    Import,
    Preparation,
    RegisteredModel,
    Registration,
    Scan,
    Schedule,
    Shard,
)
from reviewapp.notifying import send_delivery as send_delivery_now
from reviewapp.persistence import outlast
from reviewapp.scanning import scan_shard

logger = logging.getLogger(__name__)

PICTURE_SECONDS = 20


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_registration(registration_id: int) -> None:
    """Read a data set's source."""
    registration = Registration.objects.filter(pk=registration_id).first()
    if registration:
        run_registration_action(registration=registration)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_shard(shard_id: int) -> None:
    """Scan one shard; the one that ends last finishes the scan."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    shard = outlast(partial(claim_shard, shard_id=shard_id, worker=worker))
    if shard is None:  # done, cancelled, or with another worker
        return
    try:
        if not scan_shard(shard):
            return
    except Exception as error:
        logger.exception("%s failed", shard)
        message, final = plain_message(error), _is_final(error)
        shard = outlast(partial(fail_shard, shard=shard, message=message, final=final))
        if shard.state == Shard.State.QUEUED:
            _send(run_shard, [shard.pk], countdown=2**shard.failures)
            return
    if outlast(partial(is_ready_to_finish, shard.scan)):
        _send(finish_scan, [shard.scan_id])


def _is_final(error: Exception) -> bool:
    """Whether every shard of the scan would meet the error.

    A checkpoint that cannot be reached now may be there in a moment, one that does not
    exist will not.
    """
    cause = error.__cause__
    passing = isinstance(cause, OSError) and not isinstance(
        cause, FileNotFoundError | PermissionError
    )
    return isinstance(error, BadCheckpoint | ClassMismatch) and not passing


@shared_task(acks_late=True, reject_on_worker_lost=True)
def finish_scan(scan_id: int) -> None:
    """Write the facts of a scan whose shards have ended."""
    scan = Scan.objects.with_names().filter(pk=scan_id).first()
    if scan and finish_scan_action(scan=scan).state == Scan.State.RUNNING:
        enqueue_scan(scan)  # a part was lost and is scanned again
    _send(prepare_desk, take_due(Preparation.What.AIDS))
    _send(run_analysis, analyse_new_scans())
    send_due_deliveries()


@shared_task(acks_late=True, reject_on_worker_lost=True)
def prepare_desk(scan_id: int) -> None:
    """Write what helps to judge the findings of a scan that is done."""
    scan = Scan.objects.with_names().filter(pk=scan_id).first()
    if scan:
        make_aids(scan=scan)
        _send(make_pictures, take_due(Preparation.What.PICTURES))


@shared_task(acks_late=True, reject_on_worker_lost=True)
def make_pictures(scan_id: int) -> None:
    """Make thumbnails of the exemplars, some at a time, as shards wait behind it."""
    scan = Scan.objects.with_names().filter(pk=scan_id).first()
    if scan and not make_pictures_of(scan=scan, seconds=PICTURE_SECONDS):
        _send(make_pictures, [scan_id])


@shared_task(acks_late=True)
def fit_ranker(model_id: int) -> None:
    """Learn an order from the verdicts on a model's findings."""
    model = RegisteredModel.objects.filter(pk=model_id).first()
    if model:
        fit_ranker_action(model=model)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_export(export_id: int) -> None:
    """Write the file of an export."""
    export = (
        Export.objects.select_related("fix_set__dataset").filter(pk=export_id).first()
    )
    if export:
        run_export_action(export=export)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_comparison(comparison_id: int) -> None:
    """Compare two scans."""
    comparison = Comparison.objects.filter(pk=comparison_id).first()
    if comparison:
        run_comparison_action(comparison=comparison)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_analysis(analysis_id: int) -> None:
    """Compute what a scan says of thresholds or of slices."""
    analyses = Analysis.objects.select_related("scan__dataset")
    analysis = analyses.filter(pk=analysis_id).first()
    if analysis:
        run_analysis_action(analysis=analysis)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_import(import_id: int) -> None:
    """Check a file of predictions and record it as a scan."""
    run_import_from_file(import_id=import_id)
    _send(prepare_desk, take_due(Preparation.What.AIDS))
    _send(run_analysis, analyse_new_scans())
    send_due_deliveries()


@shared_task(acks_late=True, reject_on_worker_lost=True)
def send_delivery(delivery_id: int) -> None:
    """Make one attempt to tell one receiver of one notice."""
    send_delivery_now(delivery_id=delivery_id)


@shared_task(acks_late=True)
def start_scheduled_scan(schedule_id: int) -> None:
    """Start the scan of a schedule, unless the last one is still going."""
    schedule = Schedule.objects.filter(pk=schedule_id, enabled=True).first()
    if schedule is None:
        return
    version = schedule.registered_model.latest_version()
    if version is None:
        return
    try:
        scan = start_scan(
            dataset=schedule.dataset,
            version=version,
            split=schedule.split,
            trigger=Scan.Trigger.SCHEDULE,
            by=None,
        )
    except (HardmineError, MiningError) as error:
        message = f"{timezone.now():%Y-%m-%d %H:%M} not started: {error}"
        logger.warning("%s: %s", schedule, message)
    else:
        message = f"{timezone.now():%Y-%m-%d %H:%M} started scan {scan.pk}"
        enqueue_scan(scan)
    note_run(schedule=schedule, message=message)


@shared_task
def recover_lost_work() -> None:
    """Find work whose worker or message was lost; the database is the only truth.

    The only recovery there is. Running twice at once does no harm: everything sent is
    claimed once.
    """
    _send(run_shard, requeue_silent_shards())
    _send(run_shard, forgotten_shards(messages=_messages("scan")))
    _send(finish_scan, [s.pk for s in Scan.objects.active() if is_ready_to_finish(s)])
    _send(run_registration, requeue_silent_registrations())
    _send(run_export, requeue_silent_exports())
    _send(run_import, requeue_silent_imports())
    _send(run_comparison, requeue_silent_comparisons())
    _send(run_analysis, [*requeue_silent_analyses(), *analyse_new_scans()])
    fold_standings()
    _send(prepare_desk, take_due(Preparation.What.AIDS))
    _send(make_pictures, take_due(Preparation.What.PICTURES))
    _send(fit_ranker, models_to_fit())
    forget_old_notices()
    send_due_deliveries()


def _messages(queue: str) -> int | None:
    """Return how many messages wait in a queue; None when the broker does not answer."""
    try:
        with current_app.connection_for_read(transport_options=BRIEFLY) as connection:
            channel: Any = connection.default_channel  # the stubs know a base class
            declared = channel.queue_declare(queue=queue, passive=True)
            return int(declared.message_count)
    except ChannelError:  # an empty queue does not exist
        return 0
    except (OperationalError, RedisError) as error:
        logger.warning("The broker does not answer (%s).", error)
        return None


def enqueue_scan(scan: Scan) -> None:
    """Send the waiting shards of a scan to the scan queue, once it is committed.

    One that waits for nothing more is sent to be finished.
    """
    waiting = scan.shards.filter(state=Shard.State.QUEUED)
    if pks := list(waiting.values_list("pk", flat=True)):
        _enqueue(run_shard, *pks)
    else:
        _enqueue(finish_scan, scan.pk)


def enqueue_registration(registration: Registration) -> None:
    """Send a registration to a worker, once it is committed."""
    _enqueue(run_registration, registration.pk)


def enqueue_import(job: Import) -> None:
    """Send an import to a worker, once it is committed."""
    _enqueue(run_import, job.pk)


def enqueue_comparison(comparison: Comparison) -> None:
    """Send a comparison to a worker, once it is committed."""
    _enqueue(run_comparison, comparison.pk)


def enqueue_analysis(analysis: Analysis) -> None:
    """Send an analysis to a worker, once it is committed."""
    _enqueue(run_analysis, analysis.pk)


def enqueue_export(export: Export) -> None:
    """Send an export to a worker, once it is committed."""
    _enqueue(run_export, export.pk)


def enqueue_delivery(delivery: Delivery) -> None:
    """Send a delivery to a worker, once it is committed."""
    _enqueue(send_delivery, delivery.pk)


def send_due_deliveries() -> None:
    """Send what lies in the outbox to the workers; later what they could not send."""
    _send(send_delivery, due_deliveries())


def _enqueue(task: Task[[int], None], *pks: int) -> None:
    transaction.on_commit(partial(_send, task, pks))


# A connection of its own, and tried once, as a person waits for the page. Workers wait on
# theirs: such a time-out would break it.
BRIEFLY = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0}


def _send(task: Task[[int], None], pks: Sequence[int], *, countdown: float = 0) -> None:
    """Publish once; without a broker the work waits for `recover_lost_work`."""
    if not pks:
        return
    try:
        with task.app.connection_for_write(transport_options=BRIEFLY) as connection:
            for pk in pks:
                task.apply_async(  # type: ignore[call-arg]  # the stubs lack it
                    (pk,), connection=connection, retry=False, countdown=countdown
                )
    except (OperationalError, RedisError) as error:
        logger.warning(
            "%s was not sent to the broker (%s). It stays queued and is sent within "
            "minutes of the broker's return.",
            task.name,
            error,
        )
