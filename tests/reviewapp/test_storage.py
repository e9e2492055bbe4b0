"""Files are stored whole or not at all."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, default_storage

from mining.exceptions import ArtefactError
from reviewapp.storage import (
    delete_files,
    fetch_file,
    scratch_folder,
    store_bytes,
    store_file,
)


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


def test_the_web_host_may_read_what_a_worker_of_another_user_stored():
    before = os.umask(0o077)
    try:
        store_bytes("a/b.bin", b"new")
    finally:
        os.umask(before)
    assert Path(default_storage.path("a/b.bin")).stat().st_mode & 0o777 == 0o644


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


def test_what_a_killed_process_left_behind_goes_after_two_days(settings, tmp_path):
    settings.VAR = tmp_path
    for name, days in (("old", 3), ("young", 1)):
        (tmp_path / "tmp" / name).mkdir(parents=True)
        (tmp_path / "tmp" / name / "part.parquet").write_bytes(b"half")
        then = time.time() - days * 86_400
        os.utime(tmp_path / "tmp" / name, (then, then))
    with scratch_folder() as folder:
        assert folder.parent == tmp_path / "tmp"
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["young"]


# --- buckets ----------------------------------------------------------------------

REFUSED = ClientError({"Error": {"Code": "503", "Message": "SlowDown"}}, "PutObject")


class Bucket(InMemoryStorage):
    """A storage without paths, which replaces by itself as S3 does."""

    file_overwrite = True
    calls: list[str] = []
    broken = False

    def _note(self, call: str) -> None:
        Bucket.calls.append(call)
        if Bucket.broken:
            raise REFUSED

    def save(self, name, content, max_length=None):
        self._note("save")
        if super().exists(name):
            super().delete(name)
        return super().save(name, content, max_length)

    def delete(self, name):
        self._note("delete")
        super().delete(name)

    def open(self, name, mode="rb"):
        self._note("open")
        return super().open(name, mode)


@pytest.fixture
def bucket(settings) -> Iterator[type[Bucket]]:
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "tests.reviewapp.test_storage.Bucket"},
    }
    Bucket.calls.clear()
    Bucket.broken = False
    yield Bucket
    Bucket.broken = False


def test_a_bucket_replaces_in_one_request(bucket):
    for data in (b"old", b"new"):
        store_bytes("a/b.bin", data)
    assert bucket.calls == ["save", "save"]  # no moment without the file
    assert content("a/b.bin") == b"new"


def test_a_bucket_that_does_not_replace_has_the_old_one_removed_first(
    bucket, monkeypatch
):
    monkeypatch.setattr(bucket, "file_overwrite", False)
    for data in (b"old", b"new"):
        store_bytes("a/b.bin", data)
    assert bucket.calls == ["save", "delete", "save"]
    assert content("a/b.bin") == b"new"


def test_two_that_store_at_once_leave_one_file(bucket, monkeypatch):
    def taken(self, name, content, max_length=None):
        return InMemoryStorage.save(self, "a/b_other.bin", content, max_length)

    default_storage.save("a/b.bin", ContentFile(b"theirs"))
    monkeypatch.setattr(bucket, "save", taken)
    with pytest.raises(ArtefactError, match="at the same moment"):
        store_bytes("a/b.bin", b"ours")
    assert default_storage.listdir("a")[1] == ["b.bin"]
    assert content("a/b.bin") == b"theirs"


def test_what_a_bucket_refuses_is_said_plainly(bucket, tmp_path):
    store_bytes("a/b.bin", b"old")
    bucket.broken = True
    with pytest.raises(ArtefactError, match=r"SlowDown.*is kept"):
        store_bytes("a/b.bin", b"new")
    with pytest.raises(OSError, match=r"b\.bin cannot be read.*SlowDown"):
        fetch_file("a/b.bin", tmp_path / "copy")
    bucket.broken = False
    assert content("a/b.bin") == b"old"


def test_a_file_that_is_not_there_is_not_a_storage_that_is_away(bucket, tmp_path):
    with pytest.raises(FileNotFoundError):
        fetch_file("a/none.bin", tmp_path / "copy")


def test_what_cannot_be_deleted_is_left_over(bucket, caplog):
    store_bytes("a/b.bin", b"old")
    bucket.broken = True
    delete_files(["a/b.bin", "a/none.bin"])
    assert caplog.text.count("is left over") == 2
    bucket.broken = False
    delete_files(["a/b.bin", "a/none.bin"])
    assert not default_storage.exists("a/b.bin")
