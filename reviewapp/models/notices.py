"""What people and other programs are told of, and the outbox that it leaves by."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any

from django.conf import settings as conf
from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

from reviewapp.models.datasets import Dataset
from reviewapp.models.people import NoticeKind, User

if TYPE_CHECKING:
    from datetime import datetime


class WebhookQuerySet(models.QuerySet["Webhook"]):
    """Vocabulary for webhooks."""

    def for_dataset(self, dataset: Dataset) -> WebhookQuerySet:
        """Keep those of one data set."""
        return self.filter(dataset=dataset)

    def wanting(self, kind: NoticeKind) -> WebhookQuerySet:
        """Keep those that are switched on and were asked to tell of this."""
        return self.filter(is_on=True, events__contains=[kind])


class Webhook(models.Model):
    """An address of another program that is told what happens to a data set."""

    dataset = models.ForeignKey(
        Dataset, models.CASCADE, db_index=False, related_name="webhooks"
    )
    name = models.CharField(max_length=100)
    url = models.CharField(max_length=500, help_text="May hold a password: for admins")
    events = ArrayField(models.CharField(max_length=20, choices=NoticeKind.chosen()))
    is_on = models.BooleanField(default=True)
    salt = models.CharField(max_length=32, help_text="Makes its secret its own")
    created_by = models.ForeignKey(
        conf.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WebhookQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "name"], name="webhook_name_once_per_dataset"
            ),
            models.CheckConstraint(
                condition=Q(
                    events__contained_by=[
                        "scan.finished",
                        "regression",
                        "gate.failed",
                        "training.finished",
                        "report.finished",
                    ]
                ),
                name="webhook_events_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def secret(self) -> str:
        """Return what its messages are signed with, as Standard Webhooks writes it.

        It is made from SECRET_KEY and the salt whenever it is needed: a copy of the
        database signs nothing.
        """
        mac = salted_hmac("hardmine.webhook", self.salt, algorithm="sha256")
        return "whsec_" + base64.b64encode(mac.digest()).decode()

    def in_words(self) -> list[str]:
        """Return the events it is told of."""
        return [NoticeKind(kind).label for kind in self.events]


class Notice(models.Model):
    """One thing worth telling, as it was when it happened."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=20, choices=NoticeKind)
    title = models.TextField(help_text="One line")
    text = models.TextField(blank=True)
    path = models.CharField(max_length=200, help_text="Of the page that says more")
    data: models.JSONField[dict[str, Any], dict[str, Any]] = models.JSONField(
        default=dict, encoder=DjangoJSONEncoder, help_text="For programs"
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    kind__in=[
                        "scan.finished",
                        "regression",
                        "gate.failed",
                        "training.finished",
                        "report.finished",
                        "test",
                    ]
                ),
                name="notice_kind_known",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    """Vocabulary for deliveries."""

    def for_dataset(self, dataset: Dataset) -> DeliveryQuerySet:
        """Keep what leaves for the webhooks of one data set."""
        return self.filter(webhook__dataset=dataset)

    def due(self, moment: datetime) -> DeliveryQuerySet:
        """Keep what is to be sent by then, or was being sent by a worker that died."""
        return self.filter(state__in=Delivery.OPEN, due_at__lte=moment)

    def held(self, delivery: Delivery) -> DeliveryQuerySet:
        """Keep it if the claim that it was read under still stands."""
        return self.filter(
            pk=delivery.pk, state=Delivery.State.SENDING, attempts=delivery.attempts
        )

    def with_names(self) -> DeliveryQuerySet:
        """Load the notice, its data set and the receiver in the same query."""
        return self.select_related("notice__dataset", "webhook", "user")

    def newest_first(self) -> DeliveryQuerySet:
        """Order by age, the latest first."""
        return self.order_by("-id")


class Delivery(models.Model):
    """One notice on its way to one receiver; written with what it tells of."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        SENDING = "sending", "sending"
        SENT = "sent", "sent"
        FAILED = "failed", "given up"

    OPEN = (State.WAITING, State.SENDING)

    uid = models.UUIDField(
        default=uuid.uuid4, unique=True, help_text="The same in every attempt"
    )
    notice = models.ForeignKey(Notice, models.CASCADE, related_name="deliveries")
    webhook = models.ForeignKey(
        Webhook, models.CASCADE, null=True, db_index=False, related_name="deliveries"
    )
    user = models.ForeignKey(
        User, models.CASCADE, null=True, related_name="mails_on_their_way"
    )
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    status = models.PositiveSmallIntegerField(
        null=True, help_text="HTTP status of the last answer"
    )
    error = models.TextField(blank=True, help_text="Why the last attempt failed")
    due_at = models.DateTimeField(
        default=timezone.now, help_text="Next attempt; while sending: end of the claim"
    )
    sent_at = models.DateTimeField(null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["notice", "webhook", "user"],
                name="delivery_once_per_receiver",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(webhook__isnull=True) ^ Q(user__isnull=True),
                name="delivery_has_one_receiver",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["waiting", "sending", "sent", "failed"]),
                name="delivery_state_known",
            ),
        ]
        indexes = [
            # The sweep for what is to be sent.
            models.Index(
                fields=["due_at"],
                name="delivery_due",
                condition=Q(state__in=["waiting", "sending"]),
            ),
            # The last deliveries of a webhook.
            models.Index(fields=["webhook", "-id"], name="delivery_webhook_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.notice} to {self.webhook or self.user}"

    @property
    def is_open(self) -> bool:
        """Whether it still waits or is being sent."""
        return self.state in self.OPEN
