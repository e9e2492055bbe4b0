"""Files in Django's storage: written whole or not at all."""

from __future__ import annotations

import errno
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage

from mining.exceptions import ArtefactError


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a local folder that is gone afterwards."""
    parent = settings.VAR / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
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


def _store(name: str, file: IO[bytes]) -> None:
    try:
        if hasattr(default_storage, "path"):
            _replace_on_disk(name, file)
        else:  # a bucket: an upload is all or nothing
            if default_storage.exists(name):
                default_storage.delete(name)
            default_storage.save(name, File(file))
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else str(error)
        raise ArtefactError(
            f"{name} could not be stored: {what}. Nothing was half-written and what "
            "was stored before is kept. Make room and start this again."
        ) from error


def _replace_on_disk(name: str, file: IO[bytes]) -> None:
    target = Path(default_storage.path(name))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as partial:
        partial_path = Path(partial.name)
        try:
            while block := file.read(1 << 20):
                partial.write(block)
            partial.flush()
            partial_path.chmod(0o644)
            partial_path.replace(target)
        except BaseException:
            partial_path.unlink(missing_ok=True)
            raise
