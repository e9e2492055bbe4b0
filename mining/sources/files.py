"""Read files by local path or fsspec URL, hostile names included."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.core import url_to_fs

from mining.exceptions import UnreadableImage

MAX_IMAGE_BYTES = 512 * 2**20
_CHUNK = 2**20
_WHOLE = 8 * 2**20  # what is hashed from one request; above it, in pieces


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
    with plain_errors(url):
        fs, base = _file_system(f"{scheme}://{host}", os.getpid())
    return fs, f"{base.rstrip('/')}/{path}" if path else base


@lru_cache(maxsize=64)
def _file_system(address: str, pid: int) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the one file system of an address in this process.

    fsspec itself keeps one per thread: with reader threads made for each shard, that
    would be a session, its connections and its sign-in again and again. Listings are
    not kept, so that a worker that lives for months sees what a bucket holds now.
    """
    del pid  # a part of the key: connections do not survive a fork
    options = {"use_listings_cache": False, "skip_instance_cache": True}
    return cast("tuple[Any, str]", url_to_fs(address, **options))


@contextmanager
def plain_errors(url: str) -> Iterator[None]:
    """Raise ConnectionError, with the address and the reason, when a bucket does not answer.

    What botocore raises is no OSError. A bucket that refuses says something about this
    host's access key and nothing about one sample, so that is a ConnectionError too.
    """
    scheme, _, rest = url.partition("://")
    address = f"{scheme}://{rest.partition('/')[0]}"
    try:
        yield
    except _botocore_errors() as error:
        raise ConnectionError(f"{address} cannot be reached: {error}") from error
    except PermissionError as error:
        if not _is_bucket(url):
            raise
        raise ConnectionError(
            f"{url} is refused to this host ({error}). Its access key needs the right to "
            "list the bucket and to get objects"
        ) from error


def _botocore_errors() -> tuple[type[Exception], ...]:
    """Return the errors of botocore, which is an extra, when somebody loaded it."""
    module = sys.modules.get("botocore.exceptions")
    return (module.BotoCoreError,) if module else ()


def _fetch(url: str, end: int) -> bytes:
    """Return the first `end` bytes of an object by one request.

    Opening it as a file would ask for its size first: twice the requests.
    """
    fs, path = open_remote(url)
    with plain_errors(url):
        try:
            return cast("bytes", fs.cat_file(path, start=0, end=end))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # An empty object has no first byte to ask for.
            return cast("bytes", fs.cat_file(path))


def _is_bucket(url: str) -> bool:
    return url.startswith(("s3://", "s3a://"))


def open_binary(url: str) -> BinaryIO:
    """Open a file for reading bytes.

    Raises:
        OSError: It does not exist, may not be read or is not a regular file.
    """
    if not is_local(url):
        fs, path = open_remote(url)
        with plain_errors(url):
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
        ConnectionError: The storage cannot be reached.
        OSError: It does not exist or cannot be read.
    """
    if max_bytes is not None and _is_bucket(url):
        data = _fetch(url, max_bytes + 1)
        _check_size(len(data), max_bytes)
        return data
    pieces, size = [], 0
    with open_binary(url) as file, plain_errors(url):
        while piece := file.read(_CHUNK):
            pieces.append(piece)
            size += len(piece)
            _check_size(size, max_bytes)
    return b"".join(pieces)


def _check_size(size: int, max_bytes: int | None) -> None:
    if max_bytes is not None and size > max_bytes:
        raise UnreadableImage(
            f"the file is larger than {max_bytes:,} bytes and was not read"
        )


def sha256(url: str) -> tuple[str, int]:
    """Return a file's SHA-256 in hex and its size in bytes, reading it in pieces.

    Raises:
        ConnectionError: The storage cannot be reached.
        OSError: It does not exist or cannot be read.
    """
    if _is_bucket(url) and len(data := _fetch(url, _WHOLE + 1)) <= _WHOLE:
        return hashlib.sha256(data).hexdigest(), len(data)
    digest, size = hashlib.sha256(), 0
    with open_binary(url) as file, plain_errors(url):
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
