"""A text manifest record by record, so that a label can change and nothing else."""

from __future__ import annotations

import csv
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from mining.exceptions import BadManifest
from mining.sources.keys import key_from_os_path
from mining.text import shown

_MARK: Final = "\ufeff"  # the byte-order mark that some editors write
_NEEDS_QUOTES: Final = re.compile(r'[",]')
_FIELD: Final = re.compile(r'"(?:[^"]|"")*"(?=,|\Z)|[^",][^,]*|(?=,|\Z)')
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its text with its line end, and the label in it.

    Attributes:
        text: As in the file.
        key: Of the sample; "" for a header or an empty line.
        label: As a registration reads it.
        value: The label before it was made one: text or a number.
        column: Of a CSV, the place of the label; None in JSON Lines.
    """

    text: str
    key: str = ""
    label: str = ""
    value: object = ""
    column: int | None = None

    def with_label(self, label: str) -> str:
        """Return the text with another label, written as the old one is."""
        if self.column is not None:
            start, end = _field_span(self.text, self.column)
            new = _csv_field(label, quoted=self.text.startswith('"', start))
        else:
            start, end = _value_span(self.text, "label")
            ascii_only = self.text[start:end].isascii()
            new = json.dumps(typed(label, self.value), ensure_ascii=ascii_only)
        return f"{self.text[:start]}{new}{self.text[end:]}"


def key_of(path: object) -> str:
    """Return the key that a registration gives a path of a manifest."""
    return key_from_os_path(posixpath.normpath(str(path)))


def typed(label: str, like: object) -> object:
    """Return a label as a number where the old one is a number.

    Raises:
        ValueError: It is no whole number.
    """
    return int(label) if isinstance(like, int) else label


def read_records(file: BinaryIO, name: str) -> Iterator[Record]:
    """Yield every record of a CSV or JSON Lines manifest; together they are the file.

    Raises:
        BadManifest: It changed since it was registered and cannot be read any more.
    """
    lines = (raw.decode() for raw in file)
    read = _csv_records if name.lower().endswith(".csv") else _json_records
    try:
        yield from read(lines, name)
    except (csv.Error, ValueError, RecursionError) as error:
        raise BadManifest(name, [f"it cannot be read any more: {error}"]) from error


def _csv_records(lines: Iterable[str], name: str) -> Iterator[Record]:
    taken: list[str] = []
    columns: list[str] = []
    for number, fields in enumerate(csv.reader(_noted(lines, taken), strict=True)):
        text = "".join(taken)
        taken.clear()
        if not columns:
            columns = [field.strip() for field in fields]
            path, label = columns.index("path"), columns.index("label")
            yield Record(text)
        elif not fields:  # an empty line
            yield Record(text)
        elif len(fields) != len(columns):
            raise BadManifest(name, [f"record {number} has {len(fields)} fields"])
        else:
            yield Record(
                text=text,
                key=key_of(fields[path]),
                label=fields[label].strip(),
                value=fields[label],
                column=label,
            )


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """Yield lines and note them: the reader takes as many as a record has."""
    for number, line in enumerate(lines):
        taken.append(line)
        yield line if number else line.removeprefix(_MARK)


def _field_span(text: str, column: int) -> _Span:
    """Return where a field of a record stands that the reader of CSV took."""
    body = text.rstrip("\r\n")
    at = 0
    for _ in range(column):
        at = _matched(body, at).end() + 1
    return _matched(body, at).span()


def _matched(body: str, at: int) -> re.Match[str]:
    found = _FIELD.match(body, at)
    if found is None:
        raise ValueError(f"{shown(body)} cannot be split into fields")
    return found


def _csv_field(value: str, *, quoted: bool) -> str:
    if not quoted and not _NEEDS_QUOTES.search(value):
        return value
    return '"' + value.replace('"', '""') + '"'


def _json_records(lines: Iterable[str], name: str) -> Iterator[Record]:
    for number, text in enumerate(lines, start=1):
        body = text.lstrip(_MARK) if number == 1 else text
        if not body.strip():
            yield Record(text)
            continue
        row = json.loads(body)
        if not isinstance(row, dict) or not {"path", "label"} <= row.keys():
            raise BadManifest(name, [f"line {number}: path or label is missing"])
        yield Record(
            text=text,
            key=key_of(row["path"]),
            label=str(row["label"]).strip(),
            value=row["label"],
        )


def _value_span(text: str, name: str) -> _Span:
    """Return where a value of the outermost object stands; the last one counts."""
    decoder: Any = json.JSONDecoder()
    at = text.index("{") + 1
    span = (0, 0)
    while True:
        found, at = decoder.raw_decode(text, _skip(text, at))
        start = _skip(text, _skip(text, at) + 1)  # past the colon
        _, at = decoder.raw_decode(text, start)
        if found == name:
            span = (start, at)
        at = _skip(text, at)
        if text[at] == "}":
            return span
        at += 1  # past the comma


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
