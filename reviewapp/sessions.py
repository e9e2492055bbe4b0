"""Sessions in the database, by the keys that Django makes, and whose they are."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.sessions.backends import db
from django.http import HttpRequest, HttpResponse


class SessionStore(db.SessionStore):
    """Django's store; a cookie that cannot be a key is no session.

    A quoted cookie can carry NUL, which PostgreSQL refuses; Django checks the length
    alone and would look it up.
    """

    def _validate_session_key(self, key: str | None) -> bool:
        return key is not None and key.isascii() and key.isalnum() and len(key) >= 8


class SamePersonMiddleware:
    """Refuse what a page sends for somebody who is not signed in any more.

    Verdicts wait in the browser; who signs in there meanwhile must not give them. A
    script says by the header `Hardmine-User` whose they are.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on, or answer 401 as to somebody who is signed out."""
        whose = request.headers.get("Hardmine-User")
        if whose and request.user.is_authenticated and whose != str(request.user.pk):
            return HttpResponse("Somebody else is signed in.", status=401)
        return self._get_response(request)
