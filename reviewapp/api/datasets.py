"""Data sets, their classes and registrations, and what happened to them."""

from __future__ import annotations

from typing import cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from reviewapp.actions.datasets import register_again, register_dataset
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import Dataset, Event, Label, Registration, Role, User
from reviewapp.tasks import enqueue_registration


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    """A data set."""

    class Meta:
        model = Dataset
        fields = ["id", "slug", "name", "root", "manifest", "created_at"]


class LabelSerializer(serializers.ModelSerializer[Label]):
    """A class of a data set; its index is null when the data set has it no more."""

    class Meta:
        model = Label
        fields = ["id", "name", "index"]


class RegistrationSerializer(serializers.ModelSerializer[Registration]):
    """One reading of a data set's source."""

    dataset = serializers.SlugRelatedField[Dataset](slug_field="slug", read_only=True)

    class Meta:
        model = Registration
        fields = [
            "id",
            "dataset",
            "state",
            "total",
            "done",
            "added",
            "changed",
            "removed",
            "relabelled",
            "unreadable",
            "message",
            "created_at",
            "finished_at",
        ]


class EventSerializer(serializers.ModelSerializer[Event]):
    """Who did what to what and when; without an actor it was the system."""

    actor = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = Event
        fields = [
            "id",
            "action",
            "actor",
            "object_type",
            "object_id",
            "object_label",
            "data",
            "created_at",
        ]


class DatasetRequest(serializers.Serializer[Dataset]):
    """What it takes to register a data set."""

    name = serializers.CharField(max_length=100)
    root = serializers.CharField(  # type: ignore[assignment]  # a field, not the parent
        help_text="Folder or URL under a configured root"
    )
    manifest = serializers.CharField(
        required=False, allow_blank=True, help_text="File under the root; none: folders"
    )


@extend_schema(tags=["datasets"])
class DatasetsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet[Dataset]
):
    """The data sets that the person is a member of."""

    queryset = Dataset.objects.none()
    serializer_class = DatasetSerializer
    lookup_field = "slug"
    lookup_value_converter = "slug"
    keyset = ("id",)

    def get_queryset(self) -> QuerySet[Dataset]:
        """Return the person's data sets; none while the schema is made."""
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset()
        return Dataset.objects.visible_to(cast("User", self.request.user))

    @extend_schema(request=DatasetRequest, responses={202: RegistrationSerializer})
    def create(self, request: Request) -> Response:
        """Register a data set (staff); poll the registration that comes back."""
        body = DatasetRequest(data=request.data)
        body.is_valid(raise_exception=True)
        registration = register_dataset(
            **body.validated_data, by=cast("User", request.user)
        )
        enqueue_registration(registration)
        answer = RegistrationSerializer(registration)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["datasets"])
class LabelsViewSet(mixins.ListModelMixin, DatasetViewSet[Label]):
    """The classes of a data set, gone ones included."""

    queryset = Label.objects.none()
    serializer_class = LabelSerializer

    def rows(self) -> QuerySet[Label]:
        """Return the data set's classes."""
        return self.dataset.labels.all()


@extend_schema(tags=["datasets"])
class RegistrationsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Registration]
):
    """The readings of a data set's source."""

    queryset = Registration.objects.none()
    serializer_class = RegistrationSerializer
    lookup_url_kwarg = "registration_id"
    roles = {"create": Role.ADMIN}

    def rows(self) -> QuerySet[Registration]:
        """Return the data set's registrations."""
        return self.dataset.registrations.select_related("dataset")

    @extend_schema(request=None, responses={202: RegistrationSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Read the source again (admin); poll the registration that comes back."""
        registration = register_again(dataset=self.dataset, by=self.person)
        enqueue_registration(registration)
        answer = RegistrationSerializer(registration)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)


@extend_schema(tags=["datasets"])
class EventsViewSet(mixins.ListModelMixin, DatasetViewSet[Event]):
    """What happened to a data set, the latest first."""

    queryset = Event.objects.none()
    serializer_class = EventSerializer

    def rows(self) -> QuerySet[Event]:
        """Return the data set's events."""
        return Event.objects.for_dataset(self.dataset).select_related("actor")
