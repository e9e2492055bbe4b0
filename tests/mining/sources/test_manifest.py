from __future__ import annotations

import datetime
import json
from unittest import mock

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.exceptions import BadManifest, EmptySource, OutsideRoot
from mining.sources import ManifestSource, open_source
from mining.sources.files import open_binary

ROWS = [
    {"path": "a/1.png", "label": "cat", "split": "train", "camera": "north"},
    {"path": "./b/2.png", "label": "dog", "split": "", "camera": "süd"},
]


def write_manifest(root, kind, rows=ROWS, *, bom=False):
    name = f"m.{kind}"
    mark = b"\xef\xbb\xbf" if bom else b""
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), root / name)
    elif kind == "jsonl":
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (root / name).write_bytes(mark + lines.encode())
    else:
        lines = [",".join(rows[0])] + [",".join(row.values()) for row in rows]
        (root / name).write_bytes(mark + "\r\n".join(lines).encode())
    return name


def problems_of(root, name):
    with pytest.raises(BadManifest) as caught:
        open_source(str(root), name)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "bom"),
    [
        ("csv", False),
        ("csv", True),
        ("jsonl", False),
        ("jsonl", True),
        ("parquet", False),
    ],
)
def test_every_format_gives_the_same_entries(tmp_path, kind, bom):
    source = open_source(str(tmp_path), write_manifest(tmp_path, kind, bom=bom))
    first, second = source.entries()
    assert (first.key, first.label, first.split) == ("a/1.png", "cat", "train")
    assert (second.key, second.label, second.split) == ("b/2.png", "dog", "")
    assert second.attributes == {"camera": "süd"}
    assert second.url == f"{tmp_path}/b/2.png"
    assert second.line == (3 if kind == "csv" else 2)
    assert source.kind == "manifest"
    assert len(list(source.entries())) == 2


def test_it_reads_under_a_url():
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/herd/lists/m.csv", b"path,label\n1.png,cat\n")
    (entry,) = open_source("memory://herd", "lists/m.csv").entries()
    assert entry.url == "memory://herd/1.png"


def test_all_problems_are_reported_at_once(tmp_path):
    lines = [
        "path,label,split",
        "a.png,cat,train",
        "../x.png,cat,",
        "/etc/passwd,cat,",
        "s3://other/x.png,cat,",
        "b.png,,",
        "./a.png,dog,",
        "c.png,cat,holdout",
        "d.png,cat",
        ",cat,",
    ]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    error = problems_of(tmp_path, "m.csv")
    assert error.count == 8
    assert error.problems == (
        "line 3: the path '../x.png' leads out of the root",
        "line 4: the path '/etc/passwd' leads out of the root",
        "line 5: the path 's3://other/x.png' leads out of the root",
        "line 6: the label is empty",
        "line 7: the path 'a.png' is listed twice",
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a.png,cat,holdout", "the split 'holdout' is not train, val or test"),
        (b"a.png,cat", "2 fields, but the header has 3"),
        (b" ,cat,", "the path is empty"),
        (b".,cat,", "leads out of the root"),
        (b"a/../../b.png,cat,", "leads out of the root"),
        (b"zo\xeb.png,cat,", "not UTF-8"),
        (b'"a.png,cat,', "not valid CSV"),
        (b"a.png," + b"c" * 200_000 + b",", "not valid CSV"),
        (b"a\0.png,cat,", "NUL"),
    ],
)
def test_it_names_what_is_wrong_with_a_csv_line(tmp_path, line, reason):
    (tmp_path / "m.csv").write_bytes(b"path,label,split\n" + line + b"\n")
    error = problems_of(tmp_path, "m.csv")
    assert error.count == 1
    assert error.problems[0].startswith("line 2: ")
    assert reason in error.problems[0]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"path": "a.png"}', "label missing"),
        (b'{"path": 3, "label": "cat"}', "the path is empty"),
        (b'{"path": "a.png", "label": null}', "the label is empty"),
        (b'{"path": "a.png", "label": 1.5}', "not text"),
        (b'{"path": "a.png", "label": "c\\u0000"}', "NUL"),
        (b'{"path": "a.png", "label": "\\ud800"}', "surrogate"),
        (b'{"path": "a.png", "label": "c", "x": {"y": "\\u0000"}}', "NUL"),
        (b'{"path": "\xff", "label": "c"}', "not UTF-8"),
    ],
)
def test_it_names_what_is_wrong_with_a_json_line(tmp_path, line, reason):
    (tmp_path / "m.jsonl").write_bytes(b"\n" + line)
    error = problems_of(tmp_path, "m.jsonl")
    assert error.problems[0].startswith("line 2: ")
    assert reason in error.problems[0]


def test_text_that_only_looks_like_an_escaped_nul_is_fine(tmp_path):
    (tmp_path / "m.jsonl").write_text(
        r'{"path": "a.png", "label": "c", "x": "\\u0000"}'
    )
    (entry,) = open_source(str(tmp_path), "m.jsonl").entries()
    assert entry.attributes == {"x": "\\u0000"}


def test_attributes_become_what_json_knows(tmp_path):
    row = {
        "path": "a.png",
        "label": 7,
        "day": datetime.date(2024, 5, 1),
        "score": float("nan"),
        "box": [1.5, None],
        "n": 3,
    }
    name = write_manifest(tmp_path, "parquet", [row])
    (entry,) = open_source(str(tmp_path), name).entries()
    assert entry.label == "7"
    assert entry.attributes == {
        "day": "2024-05-01", "score": None, "box": [1.5, None], "n": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"file,label\na,b\n", "'path' is missing; there are: file, label"),
        (b"", "'path' is missing; there are: none"),
        (b"path,label,label\na,b,c\n", "'label' is there twice"),
    ],
)
def test_missing_and_double_columns_are_named(tmp_path, text, reason):
    (tmp_path / "m.csv").write_bytes(text)
    assert reason in str(problems_of(tmp_path, "m.csv"))


def test_a_damaged_parquet_file_is_refused(tmp_path):
    (tmp_path / "m.parquet").write_bytes(b"PAR1 nonsense PAR1")
    assert "not a readable Parquet file" in str(problems_of(tmp_path, "m.parquet"))


def test_parquet_columns_are_checked(tmp_path):
    name = write_manifest(tmp_path, "parquet", [{"path": "a.png"}])
    assert "'label' is missing" in str(problems_of(tmp_path, name))


def test_an_unknown_suffix_and_a_missing_file_are_refused(tmp_path):
    assert ".csv, .jsonl or .parquet" in str(problems_of(tmp_path, "m.xlsx"))
    assert "cannot be read" in str(problems_of(tmp_path, "m.csv"))


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_a_manifest_without_rows_is_empty(tmp_path, kind):
    if kind == "parquet":
        schema = pa.schema([("path", pa.string()), ("label", pa.string())])
        pq.write_table(schema.empty_table(), tmp_path / "m.parquet")
    else:
        (tmp_path / f"m.{kind}").write_text("path,label\n" if kind == "csv" else "\n")
    with pytest.raises(EmptySource, match="lists no images"):
        open_source(str(tmp_path), f"m.{kind}")


@pytest.mark.parametrize("name", ["../m.csv", "/etc/m.csv", "s3://x/m.csv"])
def test_the_manifest_itself_must_lie_under_the_root(tmp_path, name):
    with pytest.raises(OutsideRoot):
        open_source(str(tmp_path), name)


@pytest.mark.parametrize("name", ["out.png", "folder/passwd"])
def test_a_listed_link_out_of_the_root_is_a_problem(tmp_path, name):
    (tmp_path / "out.png").symlink_to("/etc/hostname")
    (tmp_path / "folder").symlink_to("/etc")
    (tmp_path / "m.csv").write_text(f"path,label\n{name},cat\n")
    assert "is a link that leads out" in str(problems_of(tmp_path, "m.csv"))


def test_a_manifest_link_out_of_the_root_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "m.csv").write_text("path,label\na.png,cat\n")
    (tmp_path / "root/m.csv").symlink_to(tmp_path / "m.csv")
    with pytest.raises(OutsideRoot):
        open_source(str(tmp_path / "root"), "m.csv")


def test_a_missing_image_is_not_the_manifests_problem(tmp_path):
    (tmp_path / "m.csv").write_text("path,label\nmissing.png,cat\n")
    assert len(list(open_source(str(tmp_path), "m.csv").entries())) == 1


def test_a_manifest_that_changes_after_the_check_is_refused(tmp_path):
    (tmp_path / "m.csv").write_text("path,label\na.png,cat\n")
    source = open_source(str(tmp_path), "m.csv")
    (tmp_path / "m.csv").write_text("path,label\na.png,\n")
    with pytest.raises(BadManifest, match="line 2: the label is empty"):
        list(source.entries())


def test_rows_are_read_one_by_one(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"path": "a.png", "label": "c"}\n' * 50_000)
    file = open_binary(str(tmp_path / "m.jsonl"))
    with mock.patch("mining.sources.tables.open_binary", return_value=file):
        next(ManifestSource(str(tmp_path), "m.jsonl").entries())
        assert file.closed or file.tell() < 100_000
