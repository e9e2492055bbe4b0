"""Files are stored whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from django.core.files.storage import default_storage

from mining.exceptions import ArtefactError
from reviewapp.storage import store_bytes, store_file


def content(name: str) -> bytes:
    with default_storage.open(name) as file:
        return file.read()


def leftovers() -> list[str]:
    return [name for name in default_storage.listdir("a")[1] if name != "b.bin"]


def test_it_replaces_what_was_there(tmp_path):
    store_bytes("a/b.bin", b"old")
    (tmp_path / "new").write_bytes(b"new")
    store_file("a/b.bin", tmp_path / "new")
    assert content("a/b.bin") == b"new"
    assert leftovers() == []


def test_a_full_disk_keeps_what_was_there(monkeypatch):
    store_bytes("a/b.bin", b"old")

    def full(self: Path, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ArtefactError, match=r"disk is full.*is kept"):
        store_bytes("a/b.bin", b"new")
    assert content("a/b.bin") == b"old"
    assert leftovers() == []


def test_another_fault_is_named(monkeypatch):
    def broken(self: Path, target: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(ArtefactError, match="Permission denied"):
        store_bytes("a/b.bin", b"new")
