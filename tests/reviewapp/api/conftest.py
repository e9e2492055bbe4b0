"""Clients of the API with a token, as scripts have them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from knox.models import AuthToken
from rest_framework.test import APIClient

from reviewapp.models import User


@pytest.fixture
def api_of() -> Callable[[User], APIClient]:
    """Return a client with a token of a person."""

    def api_of(user: User) -> APIClient:
        _, token = AuthToken.objects.create(user)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        client.default_format = "json"
        return client

    return api_of
