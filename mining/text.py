"""Text that every database, page and file format can hold, and the limits of names."""

from __future__ import annotations

import reprlib
import unicodedata
from typing import Final

MAX_LABEL: Final = 200  # characters
MAX_KEY_BYTES: Final = 2_000  # of UTF-8; a database index holds no more than 2,700
_SHOWN: Final = 80  # characters of a value that a message repeats
_SHOWN_INTEGER: Final = 10**40


class _Short(reprlib.Repr):
    """`repr` that ends: of long, deep and huge values it shows a part."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _SHOWN

    def repr_int(self, x: int, level: int) -> str:
        """Return the digits; Python itself refuses to write over 4,300 of them."""
        if abs(x) < _SHOWN_INTEGER:
            return repr(x)
        return f"a whole number of {x.bit_length():,} bits"


_short = _Short()


def shown(value: object) -> str:
    """Return a value as a message repeats it: like `repr`, but bounded and storable.

    >>> shown("a.png")
    "'a.png'"
    >>> shown(10**5000)
    'a whole number of 16,610 bits'
    """
    return storable(_short.repr(value))


def storable(text: str) -> str:
    r"""Return text with NUL and lone surrogates escaped; PostgreSQL and UTF-8 refuse both.

    >>> print(storable("a\0b\udcff"))
    a\x00b\udcff
    """
    escaped = text.replace("\0", "\\x00")
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def is_storable(text: str) -> bool:
    """Tell whether text has neither NUL nor lone surrogates."""
    return storable(text) == text


def check_label(label: str) -> None:
    """Check that a class name can be stored and shown on one line.

    Raises:
        ValueError: It is empty, over `MAX_LABEL` characters, or holds a control character
            or half of a surrogate pair.
    """
    if not label:
        raise ValueError("the label is empty")
    if len(label) > MAX_LABEL:
        raise ValueError(
            f"the label {shown(label)} has {len(label):,} characters; shorten it to at"
            f" most {MAX_LABEL}"
        )
    # Nearly every label is printable, which is quick to ask.
    if not label.isprintable() and any(
        unicodedata.category(letter) in {"Cc", "Cs"} for letter in label
    ):
        raise ValueError(
            f"the label {shown(label)} holds a NUL, another control character or half of"
            " a surrogate pair; remove it"
        )


def check_key(key: str) -> None:
    """Check that a path relative to the root can be stored.

    Raises:
        ValueError: It is over `MAX_KEY_BYTES`, or holds NUL or half of a surrogate pair.
    """
    if not is_storable(key):
        raise ValueError(
            f"the path {shown(key)} holds a NUL or half of a surrogate pair; rename the"
            " file"
        )
    size = len(key.encode())
    if size > MAX_KEY_BYTES:
        raise ValueError(
            f"the path {shown(key)} has {size:,} bytes; shorten it to at most"
            f" {MAX_KEY_BYTES:,}"
        )
