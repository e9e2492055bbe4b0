"""Read files by local path or fsspec URL, hostile names included."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.core import url_to_fs

from mining.exceptions import UnreadableImage

MAX_IMAGE_BYTES = 512 * 2**20
_CHUNK = 2**20


def is_local(url: str) -> bool:
    """Tell whether a path or URL names a file on this machine's disk."""
    return "://" not in url or url.startswith("file://")


def local_path(url: str) -> str:
    """Return the path of a local URL; a path comes back as it is."""
    return url.removeprefix("file://")


def open_remote(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URL and the path in it.

    Only scheme and host go through fsspec's URL parser: it takes "::" and "*" in the rest as
    syntax, and both are legal in file names.
    """
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    fs, base = cast("tuple[Any, str]", url_to_fs(f"{scheme}://{host}"))
    return fs, f"{base.rstrip('/')}/{path}" if path else base


def open_binary(url: str) -> BinaryIO:
    """Open a file for reading bytes.

    Raises:
        OSError: It does not exist, may not be read or is not a regular file.
    """
    if not is_local(url):
        fs, path = open_remote(url)
        return cast("BinaryIO", fs.open(path, "rb"))
    file = Path(local_path(url))
    # Reading a named pipe would wait for ever.
    if not stat.S_ISREG(file.stat().st_mode):
        raise OSError(f"{str(file)!a} is not a regular file")
    return file.open("rb")


def read_bytes(url: str, *, max_bytes: int | None = MAX_IMAGE_BYTES) -> bytes:
    """Return a whole file.

    Raises:
        UnreadableImage: It has more than `max_bytes`; None allows any size.
        OSError: It does not exist or cannot be read.
    """
    pieces, size = [], 0
    with open_binary(url) as file:
        while piece := file.read(_CHUNK):
            pieces.append(piece)
            size += len(piece)
            if max_bytes is not None and size > max_bytes:
                raise UnreadableImage(
                    f"the file is larger than {max_bytes:,} bytes and was not read"
                )
    return b"".join(pieces)


def sha256(url: str) -> tuple[str, int]:
    """Return a file's SHA-256 in hex and its size in bytes, reading it in pieces.

    Raises:
        OSError: It does not exist or cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with open_binary(url) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
