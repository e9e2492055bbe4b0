"""Tokens in the header: what cannot be one is refused before it is looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

if TYPE_CHECKING:
    from knox.models import AuthToken

    from reviewapp.models import User


class TokenAuthentication(KnoxTokenAuthentication):  # type: ignore[misc]  # no stubs
    """Knox's tokens, which are ASCII letters and digits.

    Knox decodes and looks up whatever bytes the header has; bytes that are not UTF-8,
    and NUL, which PostgreSQL refuses, would be errors of the server.
    """

    def authenticate_credentials(self, token: bytes) -> tuple[User, AuthToken]:
        """Return whose token it is, and the token.

        Raises:
            AuthenticationFailed: It is none, or it does not work any more.
        """
        if not token.isalnum():
            raise AuthenticationFailed("Invalid token.")
        found: tuple[User, AuthToken] = super().authenticate_credentials(token)
        return found


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """Describes it in the schema as what it is: a token in the header."""

    target_class = "reviewapp.api.authentication.TokenAuthentication"
