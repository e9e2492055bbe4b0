from __future__ import annotations

import hashlib
import os

import fsspec
import pytest

from mining.exceptions import UnreadableImage
from mining.sources import read_bytes, sha256


def test_it_hashes_in_pieces(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    assert sha256(str(tmp_path / "a")) == (hashlib.sha256(data).hexdigest(), 2_560_000)


def test_it_reads_a_file_url(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert read_bytes(f"file://{tmp_path}/a") == b"x"


def test_it_reads_a_large_file_whole(tmp_path):
    data = os.urandom(3 * 2**20 + 5)
    (tmp_path / "a").write_bytes(data)
    assert read_bytes(str(tmp_path / "a")) == data


@pytest.mark.parametrize("name", ["a::b.png", "a*b[1]?.png", "new\nline.png"])
def test_names_that_fsspec_takes_for_syntax_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(b"disk")
    assert read_bytes(str(tmp_path / name)) == b"disk"
    with fsspec.filesystem("memory").open(f"/files/{name}", "wb") as file:
        file.write(b"memory")
    assert read_bytes(f"memory://files/{name}") == b"memory"


def test_a_name_that_is_not_utf8_is_read(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes(b"x")
    assert read_bytes(str(path)) == b"x"


def test_it_refuses_a_file_above_the_limit(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bytes(str(tmp_path / "a"), max_bytes=5) == b"12345"
    with pytest.raises(UnreadableImage, match="larger than 4 bytes"):
        read_bytes(str(tmp_path / "a"), max_bytes=4)


def test_it_does_not_wait_for_a_named_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(str(tmp_path / "a.png"))


@pytest.mark.parametrize("root", ["{tmp}", "memory://nothing"])
def test_a_missing_file_is_said_so(tmp_path, root):
    with pytest.raises(FileNotFoundError):
        read_bytes(f"{root.format(tmp=tmp_path)}/missing.png")
