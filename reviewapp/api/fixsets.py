"""Fix sets: previewed and frozen."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.actions.fixsets import Preview
from reviewapp.api.base import DatasetViewSet
from reviewapp.api.recipes import RecipeSettingsSerializer
from reviewapp.candidates import Picked
from reviewapp.fixable import Agreement, FixLane
from reviewapp.forms.fixsets import FixSetForm
from reviewapp.models import (
    Cause,
    Finding,
    FixItem,
    FixSet,
    HeldItem,
    Role,
    Split,
    User,
    Verdict,
)
from reviewapp.tasks import enqueue_recipe


class FixSetSerializer(serializers.ModelSerializer[FixSet]):
    """A frozen set; `filter` says by name what it was made from."""

    created_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True
    )
    filter = serializers.DictField(read_only=True)

    class Meta:
        model = FixSet
        fields = [
            "id",
            "name",
            "filter",
            "size",
            "digest",
            "stale_because",
            "created_by",
            "created_at",
            "frozen_at",
        ]


class FixItemSerializer(serializers.ModelSerializer[FixItem]):
    """One finding as it was when the set was frozen; `label` is the one to train with."""

    class Meta:
        model = FixItem
        fields = [
            "id",
            "finding",
            "sample_key",
            "digest",
            "split",
            "original_label",
            "true_label",
            "label",
            "predicted",
            "verdict",
            "causes",
            "p_true",
            "confidence",
            "reviewer",
            "reviewed_at",
            "note",
        ]


class HeldItemSerializer(serializers.ModelSerializer[HeldItem]):
    """One finding that matched and was held aside, and why."""

    class Meta:
        model = HeldItem
        fields = [*FixItemSerializer.Meta.fields, "reason"]


class HeldPreviewSerializer(serializers.Serializer[Picked]):
    """One finding that would be held aside, and why."""

    finding = serializers.IntegerField()
    sample_key = serializers.CharField()
    true_label = serializers.CharField()
    predicted = serializers.CharField()
    verdict = serializers.ChoiceField(choices=Verdict.choices)
    reason = serializers.ChoiceField(choices=HeldItem.Reason.choices)


class PreviewSerializer(serializers.Serializer[Preview]):
    """What a fix set under a filter would hold; `lost` have another image by now.

    `by_confusion`: [true label, predicted label, items]. `held`: guard's reason ->
    findings held aside, and `first_held` the first of them. `over`: what exceeds a cap.
    """

    size = serializers.IntegerField()
    by_verdict = serializers.DictField(child=serializers.IntegerField())
    by_label = serializers.DictField(child=serializers.IntegerField())
    by_cause = serializers.DictField(child=serializers.IntegerField())
    by_split = serializers.DictField(child=serializers.IntegerField())
    by_confusion = serializers.ListField(child=serializers.JSONField())
    held = serializers.DictField(child=serializers.IntegerField())
    first_held = HeldPreviewSerializer(many=True)
    over = serializers.ListField(child=serializers.CharField())
    lost = serializers.IntegerField()


class Several(serializers.ListField):
    """A list; one value alone is a list of it."""

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the checked values."""
        found: list[Any] = super().to_internal_value(
            data if isinstance(data, list) else [data]
        )
        return found


class FixSetFilter(serializers.Serializer[Finding]):
    """The filter over findings; a field that is not given filters nothing.

    Of several values of one field any may hold.
    """

    confusions = Several(
        child=serializers.RegexField(r"^[0-9]{1,18}:[0-9]{1,18}$"),
        required=False,
        help_text='Each as "<true label id>:<predicted label id>"',
    )
    lane = Several(
        child=serializers.ChoiceField(choices=FixLane.choices), required=False
    )
    true_label = serializers.IntegerField(required=False, help_text="Label id")
    predicted_label = serializers.IntegerField(required=False, help_text="Label id")
    registered_model = serializers.IntegerField(required=False, help_text="Model id")
    kind = serializers.ChoiceField(choices=Finding.Kind.choices, required=False)
    review_state = serializers.ChoiceField(
        choices=Finding.ReviewState.choices, required=False
    )
    presence = serializers.ChoiceField(choices=Finding.Presence.choices, required=False)
    split = Several(
        child=serializers.ChoiceField(
            choices=[choice for choice in Split.choices if choice[0]]
        ),
        required=False,
    )
    cause = Several(
        child=serializers.ChoiceField(choices=Cause.choices), required=False
    )
    agreement = serializers.ChoiceField(choices=Agreement.choices, required=False)
    reviewed_from = serializers.DateField(required=False)
    reviewed_to = serializers.DateField(required=False)
    p_true_below = serializers.FloatField(min_value=0, max_value=1, required=False)
    key = serializers.CharField(required=False, help_text="File name contains")


class PreviewRequest(serializers.Serializer[FixSet]):
    """What a fix set is to be made from."""

    filter = FixSetFilter(required=False)
    include = Several(
        child=serializers.ChoiceField(choices=HeldItem.Reason.choices),
        required=False,
        help_text="Guards that hold nothing aside",
    )
    recipe = RecipeSettingsSerializer(required=False)


class FixSetRequest(PreviewRequest):
    """What it takes to freeze a fix set; its first recipe is made with it."""

    name = serializers.CharField(max_length=100)


@extend_schema(tags=["fix sets"])
class FixSetsViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[FixSet]
):
    """The fix sets of a data set, the latest first."""

    queryset = FixSet.objects.none()
    serializer_class = FixSetSerializer
    lookup_url_kwarg = "fix_set_id"
    roles = {"create": Role.ADMIN, "preview": Role.ADMIN}

    def rows(self) -> QuerySet[FixSet]:
        """Return the data set's fix sets."""
        return FixSet.objects.for_dataset(self.dataset).with_names()

    @extend_schema(request=FixSetRequest, responses={201: FixSetSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Freeze the confirmed and relabelled findings that match (admin)."""
        body = self.read(FixSetRequest(data=request.data))
        fix_set = self._form(body).freeze(by=self.person)
        enqueue_recipe(fix_set.recipes.lean().latest("pk"))
        answer = FixSetSerializer(fix_set)
        return Response(answer.data, status=status.HTTP_201_CREATED)

    @extend_schema(request=PreviewRequest, responses=PreviewSerializer)
    @action(detail=False, methods=["post"])
    def preview(self, request: Request, slug: str) -> Response:
        """Count what freezing now would hold (admin); changes nothing."""
        body = self.read(PreviewRequest(data=request.data))
        preview = self._form({"name": "preview"} | body).preview()
        return Response(PreviewSerializer(preview).data)

    @extend_schema(responses=FixItemSerializer(many=True))
    @action(detail=True, methods=["get"])
    def items(self, request: Request, slug: str, fix_set_id: int) -> Response:
        """List what a fix set holds."""
        return self.page_of(self.get_object().items.all(), FixItemSerializer)

    @extend_schema(responses=HeldItemSerializer(many=True))
    @action(detail=True, methods=["get"])
    def held(self, request: Request, slug: str, fix_set_id: int) -> Response:
        """List what the guards of a fix set held aside."""
        return self.page_of(self.get_object().held_aside.all(), HeldItemSerializer)

    def _form(self, body: dict[str, Any]) -> FixSetForm:
        """Return the page's form over the request, checked."""
        data = body.get("filter", {}) | body.get("recipe", {})
        data |= {"name": body["name"], "include": body.get("include", [])}
        form = FixSetForm(data, dataset=self.dataset)
        if not form.is_valid():
            problems = (form.errors, form.query.errors, form.recipe.errors)
            raise serializers.ValidationError(
                {
                    name: [str(error) for error in errors]
                    for part in problems
                    for name, errors in part.items()
                }
            )
        return form
