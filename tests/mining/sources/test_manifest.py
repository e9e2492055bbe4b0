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
        (b"a\0.png,cat,", "holds a NUL"),
        (b"a.png,c\0,", "holds a NUL"),
        (b"a.png,cat,\0test", r"the split '\x00test' is not train"),
        (b"a.png,c\x1b[2J,", "control character"),
        (
            b"a.png," + b"c" * 201 + b",",
            "has 201 characters; shorten it to at most 200",
        ),
        (b"a.png," + b"7" * 5000 + b",", "has 5,000 characters; shorten it"),
        (b"a/" * 1100 + b"b.png,cat,", "bytes; shorten it to at most 2,000"),
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
        (b'{"path": "a.png", "label": "c", "x\\ud800": 1}', "surrogate"),
        (b'{"path": "a.png", "label": ' + b"7" * 5000 + b"}", "not valid JSON"),
        (b'{"path": "a.png", "label": ' + b"7" * 201 + b"}", "has 201 characters"),
        (b'{"path": "a.png", "label": ' + b"[" * 700 + b"]" * 700 + b"}", "not text"),
        (
            b'{"path": "a.png", "label": "c", "x": ' + b"[" * 700 + b"]" * 700 + b"}",
            "nested more than 32 deep; store it as text",
        ),
        (
            b'{"path": "a.png", "label": "c", "x": '
            + b'{"y":' * 700
            + b"1"
            + b"}" * 701,
            "nested more than 32 deep; store it as text",
        ),
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


def test_the_longest_names_are_fine(tmp_path):
    path, label = "ä" * 120 + ".png", "ü" * 200
    (tmp_path / "m.csv").write_text(f"path,label\n{path},{label}\n")
    (entry,) = open_source(str(tmp_path), "m.csv").entries()
    assert (entry.key, entry.label) == (path, label)


def test_a_name_that_no_disk_can_hold_is_a_missing_image(tmp_path):
    (tmp_path / "m.csv").write_text(f"path,label\n{'a' * 300}.png,cat\n")
    assert len(list(open_source(str(tmp_path), "m.csv").entries())) == 1


def test_an_attribute_may_be_nested_a_little(tmp_path):
    text = "[" * 31 + "1" + "]" * 31
    (tmp_path / "m.jsonl").write_text(f'{{"path": "a.png", "label": "c", "x": {text}}}')
    (entry,) = open_source(str(tmp_path), "m.jsonl").entries()
    assert entry.attributes == {"x": json.loads(text)}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_file_that_is_not_utf8_says_how_to_save_it(tmp_path, encoding, end):
    text = f"path,label{end}a.png,cat{end}"
    (tmp_path / "m.csv").write_bytes(text.encode(encoding))
    error = problems_of(tmp_path, "m.csv")
    assert error.problems[0].startswith("line 1: ")
    assert "save the file as UTF-8" in str(error)
    str(error).encode()


@pytest.mark.parametrize(
    "header",
    [b"pa\0th,label", b"path,label,x\0", b"path,label,\xeb", b'path,label,"x\n\0"'],
)
def test_a_header_that_cannot_be_stored_is_refused(tmp_path, header):
    (tmp_path / "m.csv").write_bytes(header + b"\na.png,cat\n")
    text = str(problems_of(tmp_path, "m.csv"))
    assert "m.csv has 1 problem" in text
    assert "line 1: the header holds a NUL or is not UTF-8" in text


def test_a_header_of_very_many_columns_is_checked_quickly(tmp_path):
    (tmp_path / "m.csv").write_text(",".join(f"c{n}" for n in range(200_000)))
    assert len(str(problems_of(tmp_path, "m.csv"))) < 2000


@pytest.mark.parametrize("column", ["x", "label"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([0, 1], pa.timestamp("ns")),
        pa.array([0, 10**9], pa.int32()).view(pa.date32()),
        pa.array([0, 2**62], pa.int64()).view(pa.duration("s")),
        pa.array([b"fine", b"\xff"]).view(pa.string()),
    ],
    ids=["timestamp", "date", "duration", "text"],
)
def test_a_parquet_value_that_python_cannot_hold_is_named(tmp_path, column, values):
    columns = {"path": ["1.png", "2.png"], "label": ["cat", "cat"], column: values}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    error = problems_of(tmp_path, "m.parquet")
    (problem,) = error.problems
    assert problem.startswith(f"line 2: the column {column!r} holds a value of type")
    assert f"{values.type} that cannot be read; store the column as text" in problem


def test_parquet_names_that_are_not_utf8_are_refused(tmp_path):
    table = pa.table({"path": ["1.png"], "label": ["cat"], "camera": ["north"]})
    pq.write_table(table, tmp_path / "m.parquet", store_schema=False)
    data = (tmp_path / "m.parquet").read_bytes().replace(b"camera", b"c\xffmera")
    (tmp_path / "m.parquet").write_bytes(data)
    text = str(problems_of(tmp_path, "m.parquet"))
    assert "m.parquet" in text
    text.encode()
