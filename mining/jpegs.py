"""Take a JPEG apart without decoding it."""

from __future__ import annotations

import re
import struct
from typing import Final

_START: Final = b"\xff\xd8"
_END: Final = b"\xff\xd9"
_HEADER: Final = struct.Struct(">BBH")  # 0xFF, the marker, the length after them
_BASELINE: Final = 0xC0
_SCAN: Final = 0xDA
_NEEDED: Final = frozenset({_BASELINE, 0xC4, 0xDB, 0xDD})  # frame, tables, intervals
_JFIF: Final = 0xE0
_ADOBE: Final = 0xEE
_COMMENT: Final = 0xFE
_APPLICATION: Final = range(0xE0, 0xF0)
_JFIF_LENGTH: Final = 18  # bytes without a thumbnail
# Inside a scan 0xFF is stuffed with a zero or begins a restart marker.
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def bare_jpeg(data: bytes) -> bytes | None:
    """Return a JPEG with what its pixels need and nothing else: no EXIF, place or comment.

    Nothing is decoded: a damaged scan stays one.

    Args:
        data: The whole file.

    Returns:
        None for all but a baseline JPEG of one scan with an end.

    >>> bare_jpeg(b"GIF89a") is None
    True
    """
    if not data.startswith(_START):
        return None
    kept = [_START]
    position = len(_START)
    while position + _HEADER.size <= len(data):
        mark, marker, length = _HEADER.unpack_from(data, position)
        segment = data[position : position + 2 + length]
        if mark != 0xFF or not _is_known(marker):
            return None
        if marker == _SCAN:
            return _with_scan(kept, data, position, len(segment))
        if marker in _NEEDED or _tells_colours(marker, segment):
            kept.append(segment)
        position += 2 + length
    return None


def _is_known(marker: int) -> bool:
    needed = marker in _NEEDED or marker == _SCAN
    return needed or marker in _APPLICATION or marker == _COMMENT


def _tells_colours(marker: int, segment: bytes) -> bool:
    """Tell whether a segment says what the channels are, and holds no thumbnail."""
    if marker == _JFIF:
        return segment[4:9] == b"JFIF\0" and len(segment) == _JFIF_LENGTH
    return marker == _ADOBE and segment[4:9] == b"Adobe"


def _with_scan(kept: list[bytes], data: bytes, start: int, header: int) -> bytes | None:
    end = _MARKER.search(data, start + header)
    if end is None or end[0] != _END:
        return None
    return b"".join([*kept, data[start : end.end()]])
