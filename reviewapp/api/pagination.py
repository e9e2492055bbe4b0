"""Pages of the API: `?after=` the token of the page before, `?page_size=` up to 500."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from reviewapp.exceptions import Refused
from reviewapp.models.findings import FindingQuerySet
from reviewapp.pagination import keyset_page

MAX_PAGE_SIZE = 500


class Keyed(Protocol):
    """A view that says by what its rows are ordered."""

    keyset: Sequence[str]


class KeysetPagination(BasePagination):
    """Keyset paging in the order of the view's `keyset`, descending."""

    def paginate_queryset(
        self, queryset: Any, request: Request, view: APIView | None = None
    ) -> list[Any]:
        """Return the rows of the page.

        Raises:
            Refused: The token or the size cannot be used.
        """
        page = keyset_page(
            queryset,
            by=cast("Keyed", view).keyset,
            after=request.query_params.get("after"),
            size=page_size(request),
            parts=queryset.parts() if isinstance(queryset, FindingQuerySet) else (),
        )
        self.point_to(page.next, request)
        return page.rows

    def point_to(self, token: str | None, request: Request) -> None:
        """Remember the address of the next page; None: there is none."""
        here = request.build_absolute_uri()
        self._next = replace_query_param(here, "after", token) if token else None

    def get_paginated_response(self, data: Any) -> Response:
        """Return the page with the address of the next one, null at the end."""
        return Response({"next": self._next, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe the page."""
        return {
            "type": "object",
            "required": ["next", "results"],
            "properties": {
                "next": {"type": "string", "format": "uri", "nullable": True},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        """Describe `after` and `page_size`."""
        return [
            {
                "name": "after",
                "in": "query",
                "description": "Token of the page before; taken from its `next`.",
                "schema": {"type": "string"},
            },
            {
                "name": "page_size",
                "in": "query",
                "schema": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_PAGE_SIZE,
                    "default": api_settings.PAGE_SIZE,
                },
            },
        ]


def page_size(request: Request) -> int:
    """Return the page size asked for.

    Raises:
        Refused: It is out of its range.
    """
    text = request.query_params.get("page_size", str(api_settings.PAGE_SIZE))
    size = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= size <= MAX_PAGE_SIZE:
        raise Refused(f"page_size must be a whole number from 1 to {MAX_PAGE_SIZE}.")
    return size
