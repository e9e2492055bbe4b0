"""Celery's doors. Each task loads, returns if done already, and calls an action."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from celery import Task, shared_task
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from mining.exceptions import ArtefactError, MiningError
from reviewapp.actions.datasets import run_registration as run_registration_action
from reviewapp.actions.finishing import finish_scan as finish_scan_action
from reviewapp.actions.finishing import is_ready_to_finish
from reviewapp.actions.fixsets import run_export as run_export_action
from reviewapp.actions.scans import (
    claim_shard,
    fail_shard,
    forgotten_shards,
    requeue_silent_shards,
    start_scan,
)
from reviewapp.exceptions import HardmineError, plain_message
from reviewapp.models import Export, Registration, Scan, Schedule, Shard
from reviewapp.scanning import scan_shard

logger = logging.getLogger(__name__)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_registration(registration_id: int) -> None:
    """Read a data set's source."""
    registration = Registration.objects.filter(pk=registration_id).first()
    if registration:
        run_registration_action(registration=registration)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_shard(shard_id: int) -> None:
    """Scan one shard; the one that ends last finishes the scan."""
    shard = claim_shard(shard_id=shard_id, worker=socket.gethostname())
    if shard is None:  # done, cancelled, or with another worker
        return
    try:
        if not scan_shard(shard):
            return
    except Exception as error:
        logger.exception("%s failed", shard)
        # A checkpoint that cannot be used will not be better the next time.
        final = isinstance(error, MiningError) and not isinstance(error, ArtefactError)
        shard = fail_shard(shard=shard, message=plain_message(error), final=final)
        if shard.state == Shard.State.QUEUED:
            run_shard.apply_async((shard.pk,), countdown=2**shard.attempts)
            return
    if not shard.scan.shards.unfinished().exists():
        finish_scan.delay(shard.scan_id)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def finish_scan(scan_id: int) -> None:
    """Write the facts of a scan whose shards are done."""
    scan = Scan.objects.with_names().filter(pk=scan_id).first()
    if scan:
        finish_scan_action(scan=scan)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_export(export_id: int) -> None:
    """Write the file of an export."""
    export = (
        Export.objects.select_related("fix_set__dataset").filter(pk=export_id).first()
    )
    if export:
        run_export_action(export=export)


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
    Schedule.objects.filter(pk=schedule.pk).update(last_message=message)


@shared_task
def recover_lost_work() -> None:
    """Find work whose worker or message was lost; the database is the only truth."""
    for shard_id in [*requeue_silent_shards(), *forgotten_shards()]:
        run_shard.delay(shard_id)
    for scan in Scan.objects.active():
        if is_ready_to_finish(scan):
            finish_scan.delay(scan.pk)
    lost = timezone.now() - timedelta(seconds=settings.SHARD_LEASE_SECONDS)
    for kind, task in ((Registration, run_registration), (Export, run_export)):
        silent = kind.objects.filter(state="running", heartbeat_at__lt=lost)
        silent.update(state="queued")
        waiting = kind.objects.filter(state="queued", created_at__lt=lost)
        for pk in waiting.order_by("pk").values_list("pk", flat=True):
            task.delay(pk)


def enqueue_scan(scan: Scan) -> None:
    """Send every waiting shard of a scan to the scan queue, once it is committed."""
    _enqueue(run_shard, *scan.shards.values_list("pk", flat=True))


def enqueue_registration(registration: Registration) -> None:
    """Send a registration to a worker, once it is committed."""
    _enqueue(run_registration, registration.pk)


def enqueue_export(export: Export) -> None:
    """Send an export to a worker, once it is committed."""
    _enqueue(run_export, export.pk)


def _enqueue(task: Task[[int], None], *pks: int) -> None:
    transaction.on_commit(partial(_send, task, pks))


def _send(task: Task[[int], None], pks: Sequence[int]) -> None:
    """Publish once; without a broker the work waits for `recover_lost_work`."""
    # A connection of its own, and tried once, as a person waits for the page. Workers
    # wait on theirs: such a time-out would break it.
    options = {"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0}
    try:
        with task.app.connection_for_write(transport_options=options) as connection:
            for pk in pks:
                task.apply_async(  # type: ignore[call-arg]  # the stubs lack it
                    (pk,), connection=connection, retry=False
                )
    except (OperationalError, RedisError) as error:
        logger.warning(
            "%s was not sent to the broker (%s). It stays queued and is sent within "
            "minutes of the broker's return.",
            task.name,
            error,
        )
