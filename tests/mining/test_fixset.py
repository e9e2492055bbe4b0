from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import zipfile
from dataclasses import replace

import pytest

from mining.exceptions import ArtefactError
from mining.fixset import (
    COLUMNS,
    FixRow,
    fix_set_digest,
    write_csv,
    write_jsonl,
    write_zip,
)


def image(row: FixRow) -> bytes:
    return f"pixels of {row.sample_key}".encode()


def row(key: str = "a/1.png", **changes: object) -> FixRow:
    values = {
        "sample_key": key, "digest": hashlib.sha256(f"pixels of {key}".encode()).hexdigest(),
        "split": "train", "original_label": "cat", "true_label": "cat", "label": "dog",
        "predicted": "dog", "verdict": "relabel", "causes": ("blur", "background"),
        "p_true": 0.125, "confidence": 0.75, "reviewer": "alice",
        "reviewed_at": "2024-05-01T10:00:00+00:00", "note": "",
    }  # fmt: skip
    return FixRow(**(values | changes))


ROWS = [row("b/2.png", label="cat", verdict="confirm"), row("a/1.png"), row("é/3.png")]


def zipped(rows, **options) -> bytes:
    file = io.BytesIO()
    assert write_zip(rows, file, image, **options) == len(rows)
    return file.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def table(write, rows) -> str:
    file = io.StringIO(newline="")
    assert write(rows, file) == len(rows)
    return file.getvalue()


def test_the_digest_does_not_depend_on_the_order():
    shuffled = random.Random(1).sample(ROWS, 3)
    assert fix_set_digest(shuffled) == fix_set_digest(ROWS)
    assert fix_set_digest([row(causes=("background", "blur"))]) == fix_set_digest(
        [row()]
    )


def test_the_digest_is_that_of_the_json_lines():
    text = table(write_jsonl, ROWS)
    assert fix_set_digest(ROWS) == hashlib.sha256(text.encode()).hexdigest()
    assert [json.loads(line)["sample_key"] for line in text.splitlines()] == [
        "a/1.png", "b/2.png", "é/3.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("label", "owl"), ("note", "x"), ("p_true", 0.126), ("causes", ())],
)
def test_any_change_changes_the_digest(name, value):
    assert fix_set_digest([replace(row(), **{name: value})]) != fix_set_digest([row()])


def test_rows_cannot_be_told_apart_by_where_fields_end():
    first = [row(original_label="ab", true_label="c")]
    assert fix_set_digest(first) != fix_set_digest(
        [row(original_label="a", true_label="bc")]
    )


def test_a_csv_holds_every_column():
    (first, *_) = csv.DictReader(io.StringIO(table(write_csv, ROWS)))
    assert tuple(first) == COLUMNS
    assert first["sample_key"] == "a/1.png"
    assert first["causes"] == "background;blur"
    assert first["p_true"] == "0.125"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_formula_is_disarmed_in_the_csv_only(start):
    rows = [row(note=f"{start}cmd|' /C calc'!A0", p_true=-0.5)]
    (found,) = csv.DictReader(io.StringIO(table(write_csv, rows), newline=""))
    assert found["note"] == f"'{start}cmd|' /C calc'!A0"
    assert found["p_true"] == "-0.5"
    assert json.loads(table(write_jsonl, rows))["note"].startswith(start)


def test_line_breaks_and_quotes_survive_the_csv():
    rows = [row(note='a "b",\nc')]
    (found,) = csv.DictReader(io.StringIO(table(write_csv, rows), newline=""))
    assert found["note"] == 'a "b",\nc'


def test_the_zip_has_a_folder_per_label_and_a_manifest():
    found = members(zipped(ROWS))
    manifest = list(csv.DictReader(io.StringIO(found.pop("manifest.csv").decode())))
    assert set(found) == {
        f"{item.label}/{item.digest[:16]}-{item.sample_key.split('/')[1]}"
        for item in ROWS
    }
    for line in manifest:
        assert found[line["file"]] == f"pixels of {line['sample_key']}".encode()


def test_the_same_rows_give_the_same_zip():
    assert zipped(ROWS) == zipped(ROWS[::-1])


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..",
        ".",
        "a\\b",
        "c:\\x",
        "a\nb",
        "x" * 300,
        "/abs",
        "",
        " ",
        "…",
    ],
)
def test_hostile_labels_and_names_stay_inside(name):
    found = members(zipped([row(f"a/{name}", label=name or "-")]))
    (place,) = set(found) - {"manifest.csv"}
    folder, _, file = place.partition("/")
    assert "/" not in file
    assert not {"\\", ":", "\n"} & set(place)
    assert folder not in {"", ".", ".."}
    assert max(len(folder), len(file)) <= 120


def test_two_labels_never_share_a_folder():
    rows = [
        row("a/1.png", label="a/b"),
        row("a/2.png", label="a_b"),
        row("a/3.png", label="a:b"),
    ]
    folders = {name.partition("/")[0] for name in members(zipped(rows))}
    assert len(folders - {"manifest.csv"}) == 3


def test_the_suffix_of_an_odd_name_is_kept():
    (place,) = set(members(zipped([row("a/x y?.png")]))) - {"manifest.csv"}
    assert place.endswith(".png")


def test_an_image_that_is_listed_twice_is_written_once():
    found = members(zipped([row(predicted="dog"), row(predicted="owl")]))
    assert len(found) == 2
    assert found["manifest.csv"].count(b"a/1.png") == 2


def test_progress_counts_the_images():
    seen = []
    zipped(ROWS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_image_that_changed_since_the_review_is_refused():
    with pytest.raises(ArtefactError, match=r"a/1\.png changed since it was reviewed"):
        write_zip([row()], io.BytesIO(), lambda _: b"other pixels")
