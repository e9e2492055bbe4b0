"""Refusals as pages: what happened, what was kept, what to do."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from mining.exceptions import MiningError
from reviewapp.exceptions import HardmineError


class DomainErrorMiddleware:
    """Turn a refusal that a view did not handle into a page with its status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on; say what an address is for that is no page."""
        response = self._get_response(request)
        if response.status_code != 405 or response.content or request.method != "GET":
            return response
        page = f"{request.path.rstrip('/').rpartition('/')[0]}/"
        context = {"page": page, "query": request.META["QUERY_STRING"]}
        refusal = render(request, "errors/no_page.html", context, status=405)
        refusal.headers["Allow"] = response.headers["Allow"]
        return refusal

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponse | None:
        """Return the refusal's page, or None for anything unexpected."""
        if not isinstance(exception, HardmineError | MiningError):
            return None
        status = getattr(exception, "status", 400)
        context = {"message": str(exception), "status": status}
        return render(request, "errors/refused.html", context, status=status)
