"""Files in Django's storage: written whole or not at all."""

from __future__ import annotations

import errno
import io
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage

from mining.exceptions import ArtefactError

BLOCK = 1 << 20  # bytes
DELETERS = 8
ABANDONED_SECONDS = 2 * 86_400
FULL = (errno.ENOSPC, errno.EDQUOT)
logger = logging.getLogger(__name__)


def storage_errors() -> tuple[type[Exception], ...]:
    """Return what a storage that fails may raise: boto's errors are no OSErrors."""
    found: list[type[Exception]] = [OSError]
    # Modules of an extra: there when a bucket is in use.
    for module, name in (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("boto3.exceptions", "Boto3Error"),
    ):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a local folder that is gone afterwards.

    What a process that was killed left behind goes after two days.
    """
    parent = settings.VAR / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        with suppress(FileNotFoundError):  # its owner removed it at this moment
            if left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def store_file(name: str, path: Path) -> None:
    """Put a finished local file under `name`, replacing what was there.

    The new file gets a temporary name first, so a full disk leaves the old one.

    Raises:
        ArtefactError: The storage could not take it; nothing is left half-written.
    """
    with path.open("rb") as file:
        _store(name, file)


def store_bytes(name: str, data: bytes) -> None:
    """Put bytes under `name`, under the rules of `store_file`."""
    _store(name, io.BytesIO(data))


def fetch_file(name: str, path: Path) -> None:
    """Copy what is stored under `name` to a local file.

    Raises:
        FileNotFoundError: It is not there.
        OSError: It cannot be read now.
    """
    try:
        with default_storage.open(name) as stored, path.open("wb") as copy:
            for block in stored.chunks(BLOCK):
                copy.write(block)
    except storage_errors() as error:
        if isinstance(error, OSError):
            raise
        raise OSError(f"{name} cannot be read from the storage: {error}") from error


def delete_files(names: Iterable[str]) -> None:
    """Remove what is stored under these names; some may not be there.

    A storage that does not answer keeps them: they are only in the way.
    """
    # A bucket takes some milliseconds for each.
    with ThreadPoolExecutor(DELETERS) as pool:
        deque(pool.map(_delete, names), maxlen=0)


def _delete(name: str) -> None:
    try:
        default_storage.delete(name)
    except storage_errors() as error:
        logger.warning("%s could not be deleted (%s) and is left over.", name, error)


def _store(name: str, file: IO[bytes]) -> None:
    try:
        if isinstance(default_storage, FileSystemStorage):
            _replace_on_disk(name, file)
        else:  # a bucket: an upload is all or nothing
            _upload(name, file)
    except storage_errors() as error:
        full = isinstance(error, OSError) and error.errno in FULL
        what = "the disk is full" if full else str(error)
        raise ArtefactError(
            f"{name} could not be stored: {what}. Nothing was half-written and what "
            "was stored before is kept. Make room and start this again."
        ) from error


def _upload(name: str, file: IO[bytes]) -> None:
    # Most replace by themselves; to delete first would leave a moment without any file.
    replaces = getattr(default_storage, "file_overwrite", False)
    if not replaces and default_storage.exists(name):
        default_storage.delete(name)
    saved = default_storage.save(name, File(file))
    if saved != name:
        default_storage.delete(saved)
        raise OSError(errno.EEXIST, "another process stored it at the same moment")


def _replace_on_disk(name: str, file: IO[bytes]) -> None:
    target = Path(default_storage.path(name))
    # Each call of the system lets another thread go first: as few as will do.
    partial = target.with_name(f"tmp{secrets.token_hex(8)}")
    try:
        try:
            writing = partial.open("xb")
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            writing = partial.open("xb")
        with writing:
            shutil.copyfileobj(file, writing, BLOCK)
            os.fchmod(writing.fileno(), 0o644)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
