"""Bodies of requests: JSON that can be read, shown and stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from rest_framework import parsers
from rest_framework.exceptions import ParseError

MAX_DEPTH = 20  # lists and objects in each other; no request needs more than three


class JSONParser(parsers.JSONParser):
    """JSON of bounded depth whose texts are whole characters.

    A deep body would exhaust the stack here or in whatever shows it; half a character
    (a lone surrogate) can be written in JSON, but neither stored nor sent back.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the body.

        Raises:
            ParseError: It is no JSON, too deep, or has half a character.
        """
        try:
            body = super().parse(stream, media_type, parser_context)
            _check(body, depth=0)
        except RecursionError:
            raise _too_deep() from None
        except UnicodeEncodeError:
            raise ParseError(
                "The body has half a character: \\ud800-\\udfff."
            ) from None
        return body


def _check(value: object, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, list):
        for part in value:
            _check(part, depth=depth + 1)
    elif isinstance(value, dict):
        for name, part in value.items():
            _check(name, depth=depth + 1)
            _check(part, depth=depth + 1)


def _too_deep() -> ParseError:
    return ParseError(f"The body is nested deeper than {MAX_DEPTH} levels.")
