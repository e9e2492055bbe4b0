"""Keys: file names as text that every database, page and file format can hold."""

from __future__ import annotations

import os
import re

_ESCAPE = re.compile(rb"\\(\\|x[0-9a-f]{2})")


def key_from_os_path(path: str) -> str:
    r"""Return the key of a path: bytes that are not UTF-8 as `\xNN`, a backslash doubled.

    Args:
        path: A path as `os.listdir` gives it (undecodable bytes as surrogates).

    >>> key_from_os_path("cats/zo\udceb.png")
    'cats/zo\\xeb.png'
    """
    raw = os.fsencode(path).replace(b"\\", b"\\\\")
    return raw.decode("utf-8", "backslashreplace")


def os_path_from_key(key: str) -> str:
    r"""Return the path that `key_from_os_path` made the key from.

    >>> os_path_from_key("cats/zo\\xeb.png") == "cats/zo\udceb.png"
    True
    """

    def unescape(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return b"\\" if code == b"\\" else bytes([int(code[1:], 16)])

    return os.fsdecode(_ESCAPE.sub(unescape, key.encode("utf-8")))


def url_for(root: str, key: str) -> str:
    """Return what fsspec opens for a key under a root (a local path or a URL)."""
    return f"{root.rstrip('/')}/{os_path_from_key(key)}"
