"""What every route below a data set has in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from django.db.models import Model, QuerySet
from django_filters import FilterSet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from reviewapp.access import access_dataset
from reviewapp.filters import DatasetScoped
from reviewapp.models import Dataset, Role, User

ModelT = TypeVar("ModelT", bound=Model)


# Parameters of a list that filter nothing.
PAGING = frozenset({"after", "page_size", "format"})


class DatasetFilterBackend(DjangoFilterBackend):
    """Filters whose labels and models are those of the route's data set.

    A name that no filter has is refused: a typing error must not widen a selection.
    """

    def filter_queryset(
        self, request: Any, queryset: QuerySet[Any], view: APIView
    ) -> QuerySet[Any]:
        """Return the rows that match.

        Raises:
            ValidationError: A value is wrong, or there is no such filter.
        """
        filterset_class = self.get_filterset_class(view, queryset)
        known = set(filterset_class.base_filters) if filterset_class else set()
        _refuse(set(request.query_params) - known - PAGING, known)
        filtered: QuerySet[Any] = super().filter_queryset(request, queryset, view)
        return filtered

    def get_filterset_kwargs(
        self, request: Any, queryset: QuerySet[Any], view: APIView
    ) -> dict[str, Any]:
        """Add the data set for the filter sets that take one."""
        kwargs: dict[str, Any] = super().get_filterset_kwargs(request, queryset, view)
        filterset_class = self.get_filterset_class(view, queryset)
        if filterset_class and issubclass(filterset_class, DatasetScoped):
            kwargs["dataset"] = cast("DatasetViewSet[Any]", view).dataset
        return kwargs


class DatasetViewSet(GenericViewSet[ModelT]):
    """Routes below `datasets/<slug>/`, open to members of the data set alone.

    Attributes:
        roles: Action -> the role it needs; any member may do what is not listed.
        keyset: The order of lists, descending, the last field unique.
        dataset: Set before the action runs.
    """

    roles: ClassVar[Mapping[str, Role]] = {}
    keyset: Sequence[str] = ("id",)
    filter_backends = (DatasetFilterBackend,)
    filterset_class: type[FilterSet] | None = None
    lookup_value_converter = "int"
    dataset: Dataset

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let members with the needed role through; 404 for everybody else."""
        super().initial(request, *args, **kwargs)
        role = self.roles.get(self.action or "", Role.REVIEWER)
        self.dataset = access_dataset(self.person, kwargs["slug"], role=role)

    @property
    def person(self) -> User:
        """Return who asks; nobody gets here without signing in."""
        return cast("User", self.request.user)

    def get_queryset(self) -> QuerySet[ModelT]:
        """Return the rows of the data set; none while the schema is made."""
        if getattr(self, "swagger_fake_view", False):
            return super().get_queryset().none()
        return self.rows()

    def rows(self) -> QuerySet[ModelT]:
        """Return the rows of `self.dataset`."""
        raise NotImplementedError

    def page_of(
        self, rows: QuerySet[Any], serializer: type[serializers.ModelSerializer[Any]]
    ) -> Response:
        """Return a page of rows that are not the route's own."""
        page: Any = self.paginate_queryset(rows)
        found = serializer(page, many=True, context=self.get_serializer_context())
        return self.get_paginated_response(found.data)

    def read(self, serializer: serializers.Serializer[Any]) -> dict[str, Any]:
        """Return a request's checked data.

        Raises:
            ValidationError: A field is missing or wrong.
        """
        serializer.is_valid(raise_exception=True)
        _refuse_unknown(serializer, serializer.initial_data)
        return dict(serializer.validated_data)


def _refuse_unknown(serializer: serializers.Serializer[Any], data: Any) -> None:
    """Refuse fields that a request's serializer does not have, nested ones included."""
    _refuse(set(data) - set(serializer.fields), set(serializer.fields))
    for name, field in serializer.fields.items():
        if isinstance(field, serializers.Serializer) and isinstance(
            data.get(name), Mapping
        ):
            _refuse_unknown(field, data[name])


def _refuse(unknown: set[str], known: set[str]) -> None:
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        raise serializers.ValidationError(
            {
                name: [f"There is no such field here. There are: {there}."]
                for name in unknown
            }
        )
