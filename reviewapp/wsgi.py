"""The WSGI entry point that gunicorn serves."""

from __future__ import annotations

import codecs
import gc
import os
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.core.wsgi import get_wsgi_application

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "reviewapp.settings")  # noqa: TID251
_django = get_wsgi_application()
# What is loaded stays: the collector need not look at it again and again. A request
# makes tens of thousands of objects, few of them in cycles. Both together are worth an
# eighth of a verdict's time.
import_module(settings.ROOT_URLCONF)
gc.collect()
gc.freeze()
gc.set_threshold(50_000, 20, 20)


def application(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Serve a request; 400 if its Content-Type cannot be read or is not UTF-8.

    Django builds the request, and with a charset reads the query string by it, before
    any of its handlers: "charset=hex" would be a crash, and "charset=unicode_escape"
    gives half characters, which no page can show.
    """
    if _is_readable(environ):
        return _django(environ, start_response)
    start_response("400 Bad Request", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"The Content-Type or the query string cannot be read. Send UTF-8.\n"]


def _is_readable(environ: WSGIEnvironment) -> bool:
    try:
        charset = WSGIRequest(environ).encoding or "utf-8"
        return codecs.lookup(charset).name == "utf-8"
    except (LookupError, SuspiciousOperation, ValueError):
        return False
