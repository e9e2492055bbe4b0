"""Registered models and their versions."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.actions.registry import register_version
from reviewapp.api.base import DatasetViewSet
from reviewapp.models import ModelVersion, RegisteredModel, Role


class RegisteredModelSerializer(serializers.ModelSerializer[RegisteredModel]):
    """A named model."""

    class Meta:
        model = RegisteredModel
        fields = ["id", "name", "created_at"]


class ModelVersionSerializer(serializers.ModelSerializer[ModelVersion]):
    """One checkpoint of a registered model."""

    registered_model = RegisteredModelSerializer(read_only=True)
    classes = serializers.ListField(child=serializers.CharField(), read_only=True)
    preprocessing = serializers.DictField(read_only=True)

    class Meta:
        model = ModelVersion
        fields = [
            "id",
            "registered_model",
            "number",
            "checkpoint",
            "digest",
            "format",
            "architecture",
            "classes",
            "preprocessing",
            "note",
            "trained_on",
            "created_at",
        ]


class ModelVersionRequest(serializers.Serializer[ModelVersion]):
    """What it takes to register a model version."""

    name = serializers.CharField(max_length=100, help_text="Of the registered model")
    checkpoint = serializers.CharField(
        help_text="File or URL under a configured root, with its JSON spec beside it"
    )
    note = serializers.CharField(required=False, allow_blank=True)


@extend_schema(tags=["models"])
class RegisteredModelsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[RegisteredModel]
):
    """The named models of a data set."""

    queryset = RegisteredModel.objects.none()
    serializer_class = RegisteredModelSerializer
    lookup_url_kwarg = "model_id"

    def rows(self) -> QuerySet[RegisteredModel]:
        """Return the data set's models."""
        return self.dataset.registered_models.all()


@extend_schema(tags=["models"])
class ModelVersionsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[ModelVersion]
):
    """The versions of all models of a data set."""

    queryset = ModelVersion.objects.none()
    serializer_class = ModelVersionSerializer
    lookup_url_kwarg = "version_id"
    roles = {"create": Role.LEAD}

    def rows(self) -> QuerySet[ModelVersion]:
        """Return the versions of the data set's models."""
        return ModelVersion.objects.for_dataset(self.dataset).with_names()

    @extend_schema(request=ModelVersionRequest, responses={201: ModelVersionSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Register a checkpoint as the next version (lead); a known one comes back."""
        body = self.read(ModelVersionRequest(data=request.data))
        version = register_version(dataset=self.dataset, by=self.person, **body)
        answer = ModelVersionSerializer(version)
        return Response(answer.data, status=status.HTTP_201_CREATED)
