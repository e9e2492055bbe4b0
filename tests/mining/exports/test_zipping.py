from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from mining.exports.zipping import ZipStream, zip_to
from tests.mining.exports.rows import members


def test_it_is_a_zip_for_readers_of_zips():
    file = io.BytesIO()
    with zip_to(file) as archive:
        archive.add("é/1.txt", b"one")
        archive.add_file("2.txt", io.BytesIO(b"two" * 1_000_000))
    assert members(file.getvalue()) == {"é/1.txt": b"one", "2.txt": b"two" * 1_000_000}


def test_nothing_added_is_an_empty_zip():
    file = io.BytesIO()
    with zip_to(file):
        pass
    assert members(file.getvalue()) == {}


def test_an_error_leaves_no_list_of_files():
    file = io.BytesIO()
    with pytest.raises(FileNotFoundError), zip_to(file) as archive:
        archive.add("1.txt", Path("/no such file").read_bytes())
    assert not zipfile.is_zipfile(file)


def test_more_than_65535_files_are_one_zip(tmp_path):
    path = tmp_path / "many.zip"
    with path.open("wb") as file, zip_to(file) as archive:
        for number in range(70_000):
            archive.add(str(number), b"")
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 70_000
    if shutil.which("unzip"):  # a second reader, where there is one
        subprocess.run(["unzip", "-tq", path], check=True, capture_output=True)


class _Far(io.BytesIO):
    """A file that is read from 5 GiB on."""

    START = 5 << 30

    def seek(self, at: int, whence: int = 0) -> int:
        moved = max(at - self.START, 0) if whence == 0 else at
        return super().seek(moved, whence) + self.START

    def tell(self) -> int:
        return super().tell() + self.START


def test_files_behind_4_gib_are_found():
    file, directory = _Far(), io.BytesIO()
    stream = ZipStream(file, directory)
    stream._at = _Far.START
    stream.add("far.txt", b"far")
    stream.finish()
    with zipfile.ZipFile(file) as archive:
        assert archive.read("far.txt") == b"far"


def test_a_file_that_the_format_cannot_hold_is_refused(monkeypatch):
    monkeypatch.setattr("mining.exports.zipping._MAX_32", 10)
    with pytest.raises(OverflowError, match="4 GiB"):
        ZipStream(io.BytesIO(), io.BytesIO()).add_file("x", io.BytesIO(b"x" * 10))
