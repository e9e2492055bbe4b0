"""The request type that views take: signed in, with htmx details."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

if TYPE_CHECKING:
    from django_htmx.middleware import HtmxDetails

    from reviewapp.models import User


class UserRequest(HttpRequest):
    """A request of a signed-in person (LoginRequiredMiddleware sees to it)."""

    user: User
    htmx: HtmxDetails
