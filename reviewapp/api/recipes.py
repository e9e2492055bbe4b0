"""Recipes of fix sets."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from mining.recipe import MAX_REPEAT, RecipeSettings, recipe_schema
from reviewapp.access import access_one
from reviewapp.actions.recipes import start_recipe
from reviewapp.api.base import DatasetViewSet
from reviewapp.downloads import send_recipe
from reviewapp.filters import IdFilter
from reviewapp.models import FixSet, Recipe, Role, User
from reviewapp.tasks import enqueue_recipe


class RecipeSettingsSerializer(serializers.Serializer[RecipeSettings]):
    """The numbers of a recipe's formulas; one that is not given is the usual one."""

    beta = serializers.FloatField(
        min_value=0, max_value=0.9999999999, required=False, help_text="Class weights"
    )
    gamma = serializers.FloatField(
        min_value=0, max_value=10, required=False, help_text="Emphasis of hard samples"
    )
    max_emphasis = serializers.FloatField(
        min_value=1, max_value=MAX_REPEAT, required=False
    )
    per_class = serializers.IntegerField(
        min_value=1, max_value=10_000_000, required=False, help_text="Hard samples"
    )
    per_confusion = serializers.IntegerField(
        min_value=1, max_value=10_000_000, required=False, help_text="Hard samples"
    )
    easy_per_hard = serializers.FloatField(min_value=0, max_value=100, required=False)
    collect_per_hard = serializers.IntegerField(
        min_value=0, max_value=1000, required=False
    )
    examples = serializers.IntegerField(min_value=1, max_value=1000, required=False)
    seed = serializers.IntegerField(min_value=0, max_value=2**31 - 1, required=False)


class RecipeSerializer(serializers.ModelSerializer[Recipe]):
    """A recipe without its JSON, which `content` gives; `summary` is empty until it is done.

    `summary.samples`: role -> how many. `by_class`: [class, weight, hard, corrected, easy,
    drop]. `by_confusion`: [label, predicted, hard samples], the most frequent first.
    """

    settings = serializers.DictField(read_only=True)
    summary = serializers.DictField(read_only=True)
    requested_by = serializers.SlugRelatedField[User](
        slug_field="username", read_only=True, allow_null=True
    )

    class Meta:
        model = Recipe
        fields = [
            "id",
            "fix_set",
            "settings",
            "state",
            "message",
            "digest",
            "summary",
            "requested_by",
            "created_at",
            "finished_at",
        ]


class RecipeRequest(serializers.Serializer[Recipe]):
    """What it takes to make a recipe."""

    fix_set = serializers.IntegerField(help_text="Id of the fix set")
    settings = RecipeSettingsSerializer(required=False)


class RecipeFilter(django_filters.FilterSet):
    """Filters over recipes."""

    fix_set = IdFilter(label="Fix set", field_name="fix_set")
    state = django_filters.ChoiceFilter(label="State", choices=Recipe.State)

    class Meta:
        model = Recipe
        fields: list[str] = []


@extend_schema(tags=["fix sets"])
class RecipesViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, DatasetViewSet[Recipe]
):
    """The recipes of a data set's fix sets, the latest first."""

    queryset = Recipe.objects.none()
    serializer_class = RecipeSerializer
    filterset_class = RecipeFilter
    lookup_url_kwarg = "recipe_id"
    roles = {"create": Role.ADMIN}

    def rows(self) -> QuerySet[Recipe]:
        """Return the recipes of the data set's fix sets."""
        return Recipe.objects.for_dataset(self.dataset).lean()

    @extend_schema(request=RecipeRequest, responses={202: RecipeSerializer})
    def create(self, request: Request, slug: str) -> Response:
        """Make a recipe of a frozen set (admin); poll the one that comes back."""
        body = self.read(RecipeRequest(data=request.data))
        recipe = start_recipe(
            fix_set=access_one(
                FixSet.objects.for_dataset(self.dataset), pk=body["fix_set"]
            ),
            settings=RecipeSettings(**body.get("settings", {})),
            by=self.person,
        )
        enqueue_recipe(recipe)
        answer = RecipeSerializer(recipe)
        return Response(answer.data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses={(200, "application/json"): OpenApiTypes.OBJECT})
    @action(detail=True, methods=["get"])
    def content(self, request: Request, slug: str, recipe_id: int) -> HttpResponse:
        """Send the JSON of a recipe that is done."""
        return send_recipe(self.get_object())

    @extend_schema(
        responses={(200, "application/json"): OpenApiTypes.OBJECT}, filters=False
    )
    @action(detail=False, url_path="schema", pagination_class=None)
    def json_schema(self, request: Request, slug: str) -> Response:
        """Return the JSON Schema of recipes."""
        return Response(recipe_schema())
