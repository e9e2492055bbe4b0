"""Sessions in the database, by the keys that Django makes, and whose they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.views import redirect_to_login
from django.contrib.sessions.backends import db
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from reviewapp.models import User
from reviewapp.rows import Columns, fetch

# As text: every request reads both.
PERSON = Columns(User, "u")
WHO = f"SELECT {PERSON.sql} FROM reviewapp_user u WHERE u.id = %s"  # noqa: S608 - columns
SESSION = """
SELECT session_data FROM django_session WHERE session_key = %s AND expire_date > %s
"""


class SessionStore(db.SessionStore):
    """Django's store; a cookie that cannot be a key is no session.

    A quoted cookie can carry NUL, which PostgreSQL refuses; Django checks the length
    alone and would look it up.
    """

    def _validate_session_key(self, key: str | None) -> bool:
        return key is not None and key.isascii() and key.isalnum() and len(key) >= 8

    def load(self) -> dict[str, Any]:
        """Return what the session holds; nothing when it has ended."""
        rows = fetch(SESSION, [self.session_key, timezone.now()])
        if not rows:
            self._session_key = None
            return {}
        return self.decode(rows[0][0])


class People(ModelBackend):
    """Who signs in by name and password."""

    def get_user(self, user_id: int) -> User | None:
        """Return the person of a session; None when they may not sign in any more."""
        rows = fetch(WHO, [user_id])
        user = PERSON.read(rows[0]) if rows else None
        return user if user and self.user_can_authenticate(user) else None


class SignInMiddleware(LoginRequiredMiddleware):
    """Ask for a sign-in, and lead back to a page.

    A form that is sent when the session has ended leads back to the page that it was on:
    what it was sent to is often no page.
    """

    def handle_no_permission(
        self, request: HttpRequest, view_func: Callable[..., Any]
    ) -> HttpResponseRedirect:
        """Redirect to the sign-in, and say that what was sent was not carried out."""
        if request.method in ("GET", "HEAD"):
            return super().handle_no_permission(request, view_func)
        # The desk's outbox sends it again by itself; what a page sends when it is left,
        # by a sign-out too, nobody misses.
        if "Hardmine-Desk" not in request.headers and "beacon" not in request.POST:
            messages.warning(
                request,
                "You were signed out, so what you sent was not carried out. Sign in, "
                "then send it again.",
            )
        return redirect_to_login(
            _page_before(request),
            self.get_login_url(view_func),
            self.get_redirect_field_name(view_func) or "next",
        )


def _page_before(request: HttpRequest) -> str:
    """Return the address of the page that a form was on, as far as the browser says it."""
    referrer = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(
        referrer, {request.get_host()}, require_https=request.is_secure()
    )
    if not referrer or not is_ours:
        return request.get_full_path()
    page = urlsplit(referrer)
    return f"{page.path}?{page.query}" if page.query else page.path


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
