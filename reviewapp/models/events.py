"""Who did what to what and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models

if TYPE_CHECKING:
    from reviewapp.models.datasets import Dataset
    from reviewapp.models.people import User


class EventQuerySet(models.QuerySet["Event"]):
    """Vocabulary for events."""

    def for_dataset(self, dataset: Dataset) -> EventQuerySet:
        """Keep the events of one data set."""
        return self.filter(dataset=dataset)

    def newest_first(self) -> EventQuerySet:
        """Order by time, the latest first."""
        return self.order_by("-id")


class Event(models.Model):
    """One act, append-only; the label survives what it points to."""

    dataset = models.ForeignKey(
        "reviewapp.Dataset", models.SET_NULL, null=True, related_name="events"
    )
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )  # null: the system
    action = models.CharField(max_length=40)
    object_type = models.CharField(max_length=40)
    object_id = models.BigIntegerField()
    object_label = models.TextField()
    data = models.JSONField(default=dict, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        indexes = [
            # The data set page's "lately" list.
            models.Index(fields=["dataset", "-id"], name="event_dataset_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_label}"


def record(
    action: str,
    subject: models.Model,
    *,
    dataset: Dataset | None,
    actor: User | None,
    **data: Any,
) -> Event:
    """Append one event about `subject`; call it inside the action's transaction."""
    return Event.objects.create(
        action=action,
        object_type=type(subject).__name__,
        object_id=subject.pk,
        object_label=str(subject)[:500],
        dataset=dataset,
        actor=actor,
        data=data,
    )
