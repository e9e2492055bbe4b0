"""Webhooks of a data set, and what was sent to them; for admins."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.actions.deliveries import send_again
from reviewapp.actions.notices import (
    add_webhook,
    change_webhook,
    remove_webhook,
    renew_secret,
    try_webhook,
)
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import Delivery, NoticeKind, Role, Webhook
from reviewapp.tasks import enqueue_delivery


class WebhookSerializer(serializers.ModelSerializer[Webhook]):
    """An address that is told what happens to the data set."""

    events = serializers.ListField(
        child=serializers.ChoiceField(choices=NoticeKind.chosen())
    )

    class Meta:
        model = Webhook
        fields = ["id", "name", "url", "events", "is_on", "created_at"]


class WebhookSecretSerializer(WebhookSerializer):
    """The same with its secret, which is shown only once."""

    secret = serializers.CharField(
        read_only=True, help_text="Signs what is sent; shown only now"
    )

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


class WebhookRequest(serializers.Serializer[Any]):
    """What to send where."""

    name = serializers.CharField(max_length=100)
    url = serializers.CharField(max_length=500)
    events = serializers.ListField(
        child=serializers.ChoiceField(choices=NoticeKind.chosen()), allow_empty=False
    )


class ChangeWebhookRequest(WebhookRequest):
    """What to change of a webhook; left out: as it is."""

    is_on = serializers.BooleanField()


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """One notice on its way to one webhook."""

    kind = serializers.ChoiceField(choices=NoticeKind.choices, source="notice.kind")
    title = serializers.CharField(source="notice.title")
    created_at = serializers.DateTimeField(source="notice.created_at")

    class Meta:
        model = Delivery
        fields = [
            "id",
            "uid",
            "webhook",
            "kind",
            "title",
            "state",
            "attempts",
            "status",
            "error",
            "created_at",
            "due_at",
            "sent_at",
        ]


@extend_schema(tags=["webhooks"])
class WebhooksViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Webhook]
):
    """The webhooks of a data set."""

    queryset = Webhook.objects.none()
    serializer_class = WebhookSerializer
    lookup_url_kwarg = "webhook_id"
    roles = dict.fromkeys(
        (
            "list",
            "retrieve",
            "create",
            "partial_update",
            "destroy",
            "renew_secret",
            "test",
        ),
        Role.ADMIN,
    )

    def rows(self) -> QuerySet[Webhook]:
        """Return the data set's webhooks."""
        return Webhook.objects.for_dataset(self.dataset).select_related("dataset")

    @extend_schema(request=WebhookRequest, responses={201: WebhookSecretSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Add a webhook (admin); the answer has its secret, no later one does."""
        body = self.read(WebhookRequest(data=request.data))
        webhook = add_webhook(dataset=self.dataset, by=self.person, **body)
        found = WebhookSecretSerializer(webhook)
        return Response(found.data, status=status.HTTP_201_CREATED)

    @extend_schema(request=ChangeWebhookRequest, responses=WebhookSerializer)
    def partial_update(self, request: Request, slug: str, webhook_id: int) -> Response:
        """Change a webhook, or switch it on or off (admin)."""
        webhook = self.get_object()
        sent = self.read(ChangeWebhookRequest(data=request.data, partial=True))
        now = {name: getattr(webhook, name) for name in ("name", "url", "events")}
        changed = {**now, "is_on": webhook.is_on, **sent}
        change_webhook(webhook=webhook, by=self.person, **changed)
        return Response(WebhookSerializer(webhook).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, slug: str, webhook_id: int) -> Response:
        """Remove a webhook (admin); what waits for it is not sent."""
        remove_webhook(webhook=self.get_object(), by=self.person)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=WebhookSecretSerializer)
    @action(detail=True, methods=["post"], url_path="secret")
    def renew_secret(self, request: Request, slug: str, webhook_id: int) -> Response:
        """Give it another secret (admin); the old one signs nothing any more."""
        webhook = renew_secret(webhook=self.get_object(), by=self.person)
        return Response(WebhookSecretSerializer(webhook).data)

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, slug: str, webhook_id: int) -> Response:
        """Send a test to it (admin)."""
        delivery = try_webhook(webhook=self.get_object(), by=self.person)
        enqueue_delivery(delivery)
        found = DeliverySerializer(delivery)
        return Response(found.data, status=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["webhooks"])
class DeliveriesViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Delivery]
):
    """What was, or is to be, sent to the webhooks of a data set in a month."""

    queryset = Delivery.objects.none()
    serializer_class = DeliverySerializer
    lookup_url_kwarg = "delivery_id"
    roles = dict.fromkeys(("list", "retrieve", "again"), Role.ADMIN)

    def rows(self) -> QuerySet[Delivery]:
        """Return the deliveries to the data set's webhooks."""
        return Delivery.objects.for_dataset(self.dataset).with_names()

    @extend_schema(request=None, responses={202: DeliverySerializer})
    @action(detail=True, methods=["post"])
    def again(self, request: Request, slug: str, delivery_id: int) -> Response:
        """Send it once more, with the same id (admin)."""
        delivery = send_again(delivery=self.get_object(), by=self.person)
        enqueue_delivery(delivery)
        found = DeliverySerializer(delivery)
        return Response(found.data, status=status.HTTP_202_ACCEPTED)
