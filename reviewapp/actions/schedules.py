"""Scans that start by themselves, kept in the database for Celery's scheduler."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from celery.schedules import ParseException, crontab
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, PeriodicTask
from django_celery_beat.validators import crontab_validator

from reviewapp.exceptions import Refused
from reviewapp.models import Schedule
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import Dataset, RegisteredModel, User

FIELDS = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
TASK = "reviewapp.tasks.start_scheduled_scan"


def schedule_scan(
    *,
    dataset: Dataset,
    model: RegisteredModel,
    cron: str,
    by: User | None,
    split: str = "",
    enabled: bool = True,
) -> Schedule:
    """Scan the model's latest version at the times of a cron line, from now on.

    One schedule for each data set, model and split: a second call changes it.

    Raises:
        Refused: The cron line cannot be read.
    """
    with transaction.atomic():
        schedule, _ = Schedule.objects.update_or_create(
            dataset=dataset,
            registered_model=model,
            split=split,
            defaults={"cron": " ".join(cron.split()), "enabled": enabled},
        )
        sync_schedule(schedule=schedule)
        record(
            "scan scheduled", schedule, dataset=dataset, actor=by, cron=schedule.cron
        )
    return schedule


def sync_schedule(*, schedule: Schedule) -> Schedule:
    """Make the scheduler's entry say what the schedule says."""
    times = _times(schedule.cron)
    name = f"scan schedule {schedule.pk}: {schedule}"[:200]
    task, _ = PeriodicTask.objects.update_or_create(
        pk=schedule.periodic_task_id,
        defaults={
            "name": name,
            "task": TASK,
            "kwargs": json.dumps({"schedule_id": schedule.pk}),
            "crontab": times,
            "enabled": schedule.enabled,
        },
    )
    schedule.periodic_task = task
    schedule.save(update_fields=["periodic_task"])
    return schedule


def unschedule(*, schedule: Schedule, by: User | None) -> None:
    """Stop scanning by this schedule."""
    with transaction.atomic():
        record("scan unscheduled", schedule, dataset=schedule.dataset, actor=by)
        if schedule.periodic_task:
            schedule.periodic_task.delete()
        schedule.delete()


def _times(line: str) -> CrontabSchedule:
    try:
        crontab_validator(line)
        times = dict(zip(FIELDS, line.split(), strict=True))
        # Crontab's other Sunday, which Celery does not know.
        times["day_of_week"] = re.sub(r"\b7\b", "0", times["day_of_week"])
        crontab(**times).remaining_estimate(timezone.now())  # 30 February never comes
    except (ValidationError, ValueError, ParseException) as error:
        why = " ".join(getattr(error, "messages", [str(error)])).strip("'\" ()[]")
        raise Refused(
            f"The cron line {line!r} cannot be used ({why}). Give minute, hour, day "
            "of month, month and day of week, for example '0 2 * * *' for 2 o'clock "
            "every night."
        ) from error
    # Two entries with the same times do no harm; two requests may make them.
    known = CrontabSchedule.objects.filter(**times, timezone=settings.TIME_ZONE)
    return known.first() or CrontabSchedule.objects.create(
        **times, timezone=settings.TIME_ZONE
    )


def note_run(*, schedule: Schedule, message: str) -> None:
    """Keep what became of a schedule's last turn, for its list."""
    Schedule.objects.filter(pk=schedule.pk).update(last_message=message)
