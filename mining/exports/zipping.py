"""Write a ZIP whose list of files does not grow in memory."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, Final

_BLOCK: Final = 1 << 20
_MAX_16: Final = 0xFFFF
_MAX_32: Final = 0xFFFFFFFF
_UTF8: Final = 0x800
_DATE: Final = (1 << 5) | 1  # 1980-01-01, the oldest that ZIP knows
_UNIX_FILE: Final = 0o100644 << 16
_OLD, _ZIP64 = 20, 45  # versions that a reader needs


@contextmanager
def zip_to(file: BinaryIO) -> Iterator[ZipStream]:
    """Give a ZIP that is finished when all went well."""
    with tempfile.TemporaryFile() as directory:
        stream = ZipStream(file, directory)
        yield stream
        stream.finish()


class ZipStream:
    """A ZIP of stored files, written in one go.

    `zipfile` keeps half a kilobyte in memory for each file, this a temporary file of a
    hundred bytes each. Times and rights are fixed: the same files give the same bytes.
    """

    def __init__(self, file: BinaryIO, directory: IO[bytes]) -> None:
        self._file = file
        self._directory = directory
        self._at = 0
        self._count = 0

    def add(self, name: str, data: bytes) -> None:
        """Add one file; names must differ."""
        self._begin(name, zlib.crc32(data), len(data))
        self._put(data)

    def add_file(self, name: str, source: IO[bytes]) -> None:
        """Add what lies in another file, from its start.

        Raises:
            OverflowError: It has 4 GiB or more.
        """
        source.seek(0)
        crc = size = 0
        while block := source.read(_BLOCK):
            crc, size = zlib.crc32(block, crc), size + len(block)
        if size >= _MAX_32:
            raise OverflowError(f"{name} has {size:,} bytes; a ZIP here takes 4 GiB")
        self._begin(name, crc, size)
        source.seek(0)
        while block := source.read(_BLOCK):
            self._put(block)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)

    def _begin(self, name: str, crc: int, size: int) -> None:
        raw = name.encode()
        far = self._at >= _MAX_32
        extra = struct.pack("<2HQ", 1, 8, self._at) if far else b""
        common = (_UTF8, 0, 0, _DATE, crc, size, size, len(raw))
        self._directory.write(
            struct.pack(
                "<4s6H3I5H2I",
                b"PK\1\2",
                3 << 8 | _ZIP64,  # made on Unix, whatever runs this
                _ZIP64 if far else _OLD,
                *common,
                len(extra),
                0,
                0,
                0,
                _UNIX_FILE,
                min(self._at, _MAX_32),
            )
            + raw
            + extra
        )
        self._put(struct.pack("<4s5H3I2H", b"PK\3\4", _OLD, *common, 0) + raw)
        self._count += 1

    def finish(self) -> None:
        """Write the list of files."""
        start, size = self._at, self._directory.tell()
        self._directory.seek(0)
        shutil.copyfileobj(self._directory, self._file, _BLOCK)
        if self._count >= _MAX_16 or start >= _MAX_32:
            self._file.write(
                struct.pack(
                    "<4sQ2H2I4Q", b"PK\6\6", 44, 3 << 8 | _ZIP64, _ZIP64, 0, 0,
                    self._count, self._count, size, start,
                )
                + struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
            )  # fmt: skip
        count = min(self._count, _MAX_16)
        end = (0, 0, count, count, min(size, _MAX_32), min(start, _MAX_32), 0)
        self._file.write(struct.pack("<4s4H2IH", b"PK\5\6", *end))
