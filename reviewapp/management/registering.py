"""Registering a data set in this process, with progress."""

from __future__ import annotations

from django.core.management.base import CommandError, OutputWrapper
from django.utils import timezone

from reviewapp.actions.datasets import (
    register_again,
    requeue_silent_registrations,
    run_registration,
)
from reviewapp.management.meter import Meter
from reviewapp.models import Dataset, Registration, User


def queue_again(dataset: Dataset, by: User) -> Registration:
    """Return a queued registration: one that was left lying, or a new one.

    Raises:
        AlreadyRunning: A registration or a scan of the data set is going on.
    """
    requeue_silent_registrations(dataset=dataset)
    waiting = dataset.registrations.filter(state=Registration.State.QUEUED).first()
    return waiting or register_again(dataset=dataset, by=by)


def register_here(registration: Registration, out: OutputWrapper) -> Registration:
    """Run a queued registration and return it, done.

    Raises:
        CommandError: It failed; the data set was left as it was.
    """
    try:
        with Meter(out, "Registering", None) as meter:
            run_registration(
                registration=registration, on_progress=lambda r: meter.reach(r.done)
            )
    except BaseException:  # Ctrl-C too: what is not running must not look as if it were
        Registration.objects.filter(
            pk=registration.pk, state=Registration.State.RUNNING
        ).update(
            state=Registration.State.FAILED,
            message=f"Interrupted. {registration.dataset} was left as it was.",
            finished_at=timezone.now(),
        )
        raise
    if registration.state != Registration.State.DONE:
        why = registration.message or "another process runs it"
        raise CommandError(f"{registration.dataset} was not registered: {why}")
    return registration
