"""The WSGI entry point: what Django itself cannot read is a 400, not a crash."""

from __future__ import annotations

import pytest
from django.test import RequestFactory

from reviewapp.wsgi import application

FORM = "application/x-www-form-urlencoded"


def status(content_type: str, *, query: str = "") -> str:
    environ = RequestFactory().get("/sign-in/").environ
    environ |= {"CONTENT_TYPE": content_type, "QUERY_STRING": query}
    said: list[str] = []
    body = application(environ, lambda status, headers: said.append(status))
    assert b"".join(body)
    return said[0]


@pytest.mark.parametrize("query", ["", "next=%2F%5Cud800"])
@pytest.mark.parametrize(
    "parameter",
    [
        *(f"charset={name}" for name in ("hex", "zlib", "punycode", "undefined")),
        "charset=unicode_escape",  # gives half characters, which no page can show
        "charset*=utf-8''hex",
        "charset*0=he; charset*1=x",
        "charset=\0",
        "x*=nothing'en'a",
    ],
)
def test_a_charset_that_cannot_be_read_is_a_bad_request(parameter, query):
    assert status(f"text/plain; {parameter}", query=query) == "400 Bad Request"


def test_too_many_fields_beside_a_charset_are_a_bad_request():
    query = "a=1&" * 1001
    assert status("text/plain; charset=utf-8", query=query) == "400 Bad Request"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", f"{FORM}; charset=UTF-8", "text/plain; charset=unheard-of"],
)
def test_every_other_request_goes_on(content_type):
    assert status(content_type, query="next=%2F") == "200 OK"
