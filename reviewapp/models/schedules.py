"""Scans that start by themselves at set times."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.utils import timezone

from reviewapp.models.datasets import Dataset, Split
from reviewapp.models.registry import RegisteredModel


class Schedule(models.Model):
    """Scan the latest version of a model again and again, at the times of a cron line."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="schedules")
    registered_model = models.ForeignKey(
        RegisteredModel, models.CASCADE, related_name="schedules"
    )
    split = models.CharField(max_length=5, choices=Split, blank=True)
    cron = models.CharField(
        max_length=100, help_text="minute hour day-of-month month day-of-week"
    )
    enabled = models.BooleanField(default=True)
    periodic_task = models.OneToOneField(
        "django_celery_beat.PeriodicTask",
        models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
    )
    last_message = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "registered_model", "split"],
                name="schedule_once_per_dataset_model_split",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.registered_model} on {self.dataset} at {self.cron}"

    def next_run(self) -> datetime | None:
        """Return when the next scan starts; None while it is switched off."""
        task = self.periodic_task
        if not self.enabled or task is None or not task.enabled:
            return None
        now = timezone.now()
        try:
            remaining: timedelta = task.crontab.schedule.remaining_estimate(now)
        except ValueError:  # a day that never comes, set outside `schedule_scan`
            return None
        # The estimate reads the clock itself, so the sum is off by a little.
        near = now + remaining + timedelta(seconds=30)
        return near.replace(second=0, microsecond=0)
