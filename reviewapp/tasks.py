"""Celery's doors. Each task loads, returns if done already, and calls an action."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from functools import partial

from celery import Task, shared_task
from django.db import transaction
from django.utils import timezone

from mining.exceptions import MiningError
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
from reviewapp.actions.exports import requeue_silent_exports
from reviewapp.actions.exports import run_export as run_export_action
from reviewapp.actions.finishing import finish_scan as finish_scan_action
from reviewapp.actions.finishing import is_ready_to_finish
from reviewapp.actions.imports import requeue_silent_imports
from reviewapp.actions.notices import forget_old_notices
from reviewapp.actions.ranking import fit_ranker as fit_ranker_action
from reviewapp.actions.ranking import models_to_fit
from reviewapp.actions.recipes import requeue_silent_recipes
from reviewapp.actions.recipes import run_recipe as run_recipe_action
from reviewapp.actions.reports import report_new_runs, requeue_silent_reports
from reviewapp.actions.reports import run_report as run_report_action
from reviewapp.actions.runs import (
    claim_run,
    fail_run,
    forget_old_states,
    forgotten_runs,
    requeue_silent_runs,
)
from reviewapp.actions.scans import start_scan
from reviewapp.actions.schedules import note_run
from reviewapp.actions.shards import (
    claim_shard,
    fail_shard,
    forgotten_shards,
    requeue_silent_shards,
)
from reviewapp.actions.standings import fold_standings
from reviewapp.actions.verifying import start_due_scans
from reviewapp.exceptions import HardmineError, plain_message
from reviewapp.folding import scan_out_of_fold
from reviewapp.importing import run_import as run_import_from_file
from reviewapp.judged import recount_asked
from reviewapp.models import (
    Analysis,
    Comparison,
    Delivery,
    Export,
    FoldRun,
    Import,
    Preparation,
    Recipe,
    RegisteredModel,
    Registration,
    Report,
    Scan,
    Schedule,
    Shard,
    TrainingRun,
)
from reviewapp.models.runs import R
from reviewapp.notifying import send_delivery as send_delivery_now
from reviewapp.persistence import outlast
from reviewapp.retraining import train_run
from reviewapp.scanning import is_final, scan_shard
from reviewapp.sending import messages_in as _messages
from reviewapp.sending import send as _send

logger = logging.getLogger(__name__)

PICTURE_SECONDS = 20
A_MONTH = 30 * 86_400  # seconds; a training has no other limit than its epochs


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
    # At one moment: a claim whose answer was lost with the connection is the same claim.
    claim = partial(claim_shard, shard_id=shard_id, worker=worker, at=timezone.now())
    shard = outlast(claim)
    if shard is None:  # done, cancelled, or with another worker
        return
    try:
        if not scan_shard(shard):
            return
    except Exception as error:
        logger.exception("%s failed", shard)
        message, final = plain_message(error), is_final(error)
        shard = outlast(partial(fail_shard, shard=shard, message=message, final=final))
        if shard.state == Shard.State.QUEUED:
            _send(run_shard, [shard.pk], countdown=2**shard.failures)
            return
    if outlast(partial(is_ready_to_finish, shard.scan)):
        _send(finish_scan, [shard.scan_id])


@shared_task(
    acks_late=True,
    reject_on_worker_lost=True,
    time_limit=A_MONTH,
    soft_time_limit=A_MONTH,
)
def run_training(run_id: int) -> None:
    """Retrain a model version, and have what came of it scanned."""
    if _see_through(TrainingRun, run_id, train_run):
        send_due_scans()
        send_due_deliveries()


@shared_task(
    acks_late=True,
    reject_on_worker_lost=True,
    time_limit=A_MONTH,
    soft_time_limit=A_MONTH,
)
def run_folds(run_id: int) -> None:
    """Make an out-of-fold scan."""
    if _see_through(FoldRun, run_id, scan_out_of_fold):
        send_what_follows()


def _see_through(kind: type[R], run_id: int, work: Callable[[R], object]) -> bool:
    """Claim a run, do it and note its error; False when it was not to be had."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    claim = partial(
        claim_run, kind=kind, run_id=run_id, worker=worker, at=timezone.now()
    )
    run = outlast(claim)
    if run is None:  # done, cancelled, or with another worker
        return False
    try:
        work(run)
    except Exception as error:
        logger.exception("%s failed", run)
        outlast(partial(fail_run, run=run, message=plain_message(error)))
    return True


@shared_task(acks_late=True, reject_on_worker_lost=True)
def finish_scan(scan_id: int) -> None:
    """Write the facts of a scan whose shards have ended."""
    scan = Scan.objects.with_names().filter(pk=scan_id).first()
    if scan and finish_scan_action(scan=scan).state == Scan.State.RUNNING:
        enqueue_scan(scan)  # a part was lost and is scanned again
    _send(prepare_desk, take_due(Preparation.What.AIDS))
    _send(run_analysis, analyse_new_scans())
    _send(run_report, report_new_runs())
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
    """Make thumbnails that no shard made, some at a time: shards wait behind it."""
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
def make_recipe(recipe_id: int) -> None:
    """Make the recipe of a frozen fix set."""
    recipe = Recipe.objects.lean().filter(pk=recipe_id).first()
    if recipe:
        run_recipe_action(recipe=recipe)


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
def run_report(report_id: int) -> None:
    """Make the report of a training run."""
    reports = Report.objects.select_related("run__dataset", "run__recipe__fix_set")
    report = reports.filter(pk=report_id).first()
    if report:
        run_report_action(report=report)
        send_due_deliveries()


@shared_task(acks_late=True, reject_on_worker_lost=True)
def run_import(import_id: int) -> None:
    """Check a file of predictions and record it as a scan."""
    run_import_from_file(import_id=import_id)
    send_what_follows()


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
    for kind, task in ((TrainingRun, run_training), (FoldRun, run_folds)):
        _send(task, requeue_silent_runs(kind=kind))
        _send(task, forgotten_runs(kind=kind, messages=_messages("scan")))
    send_due_scans()
    _send(run_registration, requeue_silent_registrations())
    _send(run_export, requeue_silent_exports())
    _send(make_recipe, requeue_silent_recipes())
    _send(run_import, requeue_silent_imports())
    _send(run_comparison, requeue_silent_comparisons())
    _send(run_analysis, [*requeue_silent_analyses(), *analyse_new_scans()])
    _send(run_report, [*requeue_silent_reports(), *report_new_runs()])
    fold_standings()
    _send(prepare_desk, take_due(Preparation.What.AIDS))
    _send(make_pictures, take_due(Preparation.What.PICTURES))
    _send(fit_ranker, models_to_fit())
    forget_old_notices()
    for kind in (TrainingRun, FoldRun):
        forget_old_states(kind=kind)
    recount_asked()
    send_due_deliveries()


def enqueue_scan(scan: Scan) -> None:
    """Send the waiting shards of a scan to the scan queue, once it is committed.

    One that waits for nothing more is sent to be finished.
    """
    waiting = scan.shards.filter(state=Shard.State.QUEUED)
    if pks := list(waiting.values_list("pk", flat=True)):
        _enqueue(run_shard, *pks)
    else:
        _enqueue(finish_scan, scan.pk)


def enqueue_training(run: TrainingRun) -> None:
    """Send a training and its controls to a worker, once it is committed."""
    controls = run.controls.filter(state=TrainingRun.State.QUEUED)
    _enqueue(run_training, run.pk, *controls.values_list("pk", flat=True))


def enqueue_folds(run: FoldRun) -> None:
    """Send an out-of-fold run to a worker, once it is committed."""
    _enqueue(run_folds, run.pk)


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


def enqueue_report(report: Report) -> None:
    """Send a report to a worker, once it is committed."""
    _enqueue(run_report, report.pk)


def enqueue_export(export: Export) -> None:
    """Send an export to a worker, once it is committed."""
    _enqueue(run_export, export.pk)


def enqueue_recipe(recipe: Recipe) -> None:
    """Send a recipe to a worker, once it is committed."""
    _enqueue(make_recipe, recipe.pk)


def enqueue_delivery(delivery: Delivery) -> None:
    """Send a delivery to a worker, once it is committed."""
    _enqueue(send_delivery, delivery.pk)


def send_due_scans() -> None:
    """Start the scans of versions that were trained, and send them to the workers."""
    for scan in start_due_scans():
        enqueue_scan(scan)


def send_what_follows() -> None:
    """Send what a scan that was imported leads to."""
    _send(prepare_desk, take_due(Preparation.What.AIDS))
    _send(run_analysis, analyse_new_scans())
    send_due_deliveries()


def send_due_deliveries() -> None:
    """Send what lies in the outbox to the workers; later what they could not send."""
    _send(send_delivery, due_deliveries())


def _enqueue(task: Task[[int], None], *pks: int) -> None:
    transaction.on_commit(partial(_send, task, pks))
