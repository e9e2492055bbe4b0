"""A bucket-like storage that fails, freezes its worker or kills it, on order.

A test leaves orders as files in a folder; a worker process carries them out. An order
that is not standing is carried out once, by whichever process removes its file first.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal
from uuid import uuid4

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, Storage

Moment = Literal["save", "saved", "delete"]
Deed = Literal["fail", "freeze", "kill"]


class SabotagedStorage(Storage):
    """Files on disk behind the interface of a bucket: it has no `path`."""

    def __init__(self, *, orders: str) -> None:
        self._orders = Path(orders)
        self._disk = FileSystemStorage(location=settings.MEDIA_ROOT)

    def _open(self, name: str, mode: str = "rb") -> IO[bytes]:
        return self._disk.open(name, mode)

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return name  # as in a bucket, the last writer wins

    def _save(self, name: str, content: File) -> str:
        carry_out(self._orders, "save", name)
        target = Path(self._disk.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        upload = target.with_name(f".{uuid4().hex}")
        upload.write_bytes(content.read())
        upload.replace(target)
        carry_out(self._orders, "saved", name)
        return name

    def delete(self, name: str) -> None:
        carry_out(self._orders, "delete", name)
        self._disk.delete(name)

    def exists(self, name: str) -> bool:
        return self._disk.exists(name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return self._disk.listdir(path)

    def size(self, name: str) -> int:
        return self._disk.size(name)

    def url(self, name: str | None) -> str:
        return self._disk.url(name)


def order(
    folder: Path,
    deed: Deed,
    moment: Moment,
    word: str,
    *,
    standing: bool = False,
) -> Path:
    """Leave an order for names that contain `word`.

    Args:
        folder: Where the storage looks for orders.
        deed: What to do.
        moment: Before or after a file is saved, or before it is deleted.
        word: Part of the file's name.
        standing: Again and again, until the order's file is removed.
    """
    path = folder / f"{uuid4().hex}.order"
    body = {"deed": deed, "moment": moment, "word": word, "standing": standing}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(body))
    return fresh.rename(path)


def carry_out(folder: Path, moment: Moment, name: str) -> None:
    for deed in _due(folder, moment, name):
        if deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif deed == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            raise OSError(f"the storage broke down at {name}")


def _due(folder: Path, moment: Moment, name: str) -> Iterator[Deed]:
    for path in sorted(folder.glob("*.order")):
        try:
            body: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:  # another process was quicker
            continue
        is_meant = body["moment"] == moment and body["word"] in name
        if is_meant and (body["standing"] or _take(path)):
            yield body["deed"]


def _take(path: Path) -> bool:
    """Whether it is for us: of several processes one gets an order."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
