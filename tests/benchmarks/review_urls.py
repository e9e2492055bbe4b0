"""Every real address, and behind them the yardstick.

It is the cheapest view that knows who asks: the whole middleware, the session and the
user from the database, two bytes. Standing last, it is resolved last.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def yardstick(request: HttpRequest) -> HttpResponse:
    assert request.user.is_authenticated
    return HttpResponse(b"ok")


urlpatterns = [
    path("", include("reviewapp.urls")),
    path("yardstick/", yardstick),
]
