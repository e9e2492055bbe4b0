"""Refusals as JSON: {"detail": message} with the status of the refusal."""

from __future__ import annotations

from typing import Any

from rest_framework.response import Response
from rest_framework.views import exception_handler as default_handler

from mining.exceptions import MiningError
from reviewapp.exceptions import HardmineError


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Return the answer for a refusal; leave everything else to REST framework."""
    if not isinstance(exc, HardmineError | MiningError):
        return default_handler(exc, context)
    return Response({"detail": str(exc)}, status=getattr(exc, "status", 400))
