from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.exceptions import ArtefactError, BadManifest, MiningError
from mining.exports import Correction, write_manifest, write_patch
from mining.sources import ManifestSource

CSV = (
    "\ufeffid,path , label,note\r\n"
    '1,a/1.png,cat,"as, ""is"""\r\n'
    "\r\n"
    '2,"a/2.png","cat","two\nlines"\r\n'
    '3,./a//3.png, cat ,5" disk\r\n'
    "4,a/4.png,dog,"
)
JSONL = (
    '{"path": "a/1.png",  "label":"cat", "size": 1.0e2, "label_of": "cat"}\n'
    "\n"
    '{"label":"cat","path":"a/2.png","inner":{"label":"cat"}}\r\n'
    '{"path":"a/3.png","label":"k\\u00e4tzchen"}\n'
    '{"path":"a/4.png","label":7}'
)


def corrections(new: Mapping[str, str], *old: str):
    known = frozenset(old or ("cat",))

    def of(keys):
        return {key: Correction(known, new[key]) for key in keys if key in new}

    return of


def run(write, folder: Path, name: str, new: Mapping[str, str], *old: str) -> bytes:
    file = io.BytesIO()
    told: list[int] = []
    write(
        f"{folder}/{name}",
        name,
        corrections(new, *old),
        file,
        expected=len(new),
        progress=told.append,
    )
    assert (told[-1], told) == (len(new), sorted(told))
    return file.getvalue()


def patched(folder: Path, patch: bytes, name: str, command: list[str]) -> bytes:
    """Return the manifest after another program applied the patch to a copy of it."""
    place = folder / "copy"
    (place / name).parent.mkdir(parents=True)
    shutil.copyfile(folder / name, place / name)
    subprocess.run(command, cwd=place, input=patch, check=True, capture_output=True)
    return (place / name).read_bytes()


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "labels.csv").write_bytes(CSV.encode())
    (tmp_path / "labels.jsonl").write_bytes(JSONL.encode())
    return tmp_path


def test_of_a_csv_only_the_labels_change(manifest):
    found = run(
        write_manifest, manifest, "labels.csv",
        {"a/1.png": "dog", "a/2.png": 'fox "red"', "a/3.png": "a,b"},
    )  # fmt: skip
    assert found.decode() == (
        "\ufeffid,path , label,note\r\n"
        '1,a/1.png,dog,"as, ""is"""\r\n'
        "\r\n"
        '2,"a/2.png","fox ""red""","two\nlines"\r\n'
        '3,./a//3.png,"a,b",5" disk\r\n'
        "4,a/4.png,dog,"
    )


def test_of_json_lines_only_the_labels_change(manifest):
    new = {"a/1.png": "dög", "a/2.png": "dog", "a/3.png": "dög", "a/4.png": "8"}
    found = run(
        write_manifest, manifest, "labels.jsonl", new, "cat", "kätzchen", "7"
    ).decode()
    assert found == (
        '{"path": "a/1.png",  "label":"d\\u00f6g", "size": 1.0e2, "label_of": "cat"}\n'
        "\n"
        '{"label":"dog","path":"a/2.png","inner":{"label":"cat"}}\r\n'
        '{"path":"a/3.png","label":"d\\u00f6g"}\n'
        '{"path":"a/4.png","label":8}'
    )
    assert json.loads(found.splitlines()[0])["label"] == "dög"


@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_of_a_parquet_only_the_labels_change(tmp_path, kind):
    table = pa.table(
        {
            "path": ["a/1.png", "a/2.png"],
            "label": pa.array(["cat", "dog"], kind),
            "width": pa.array([1, None], pa.int16()),
        }
    )
    pq.write_table(table, tmp_path / "labels.parquet")
    found = run(write_manifest, tmp_path, "labels.parquet", {"a/1.png": "dog"})
    read = pq.read_table(io.BytesIO(found))
    assert read.schema == table.schema
    assert read.to_pylist() == [
        {"path": "a/1.png", "label": "dog", "width": 1},
        {"path": "a/2.png", "label": "dog", "width": None},
    ]


def test_a_label_that_a_parquets_numbers_cannot_say_is_refused(tmp_path):
    table = pa.table({"path": ["a/1.png"], "label": [7]})
    pq.write_table(table, tmp_path / "labels.parquet")
    assert b"PAR1" in run(
        write_manifest, tmp_path, "labels.parquet", {"a/1.png": "8"}, "7"
    )
    with pytest.raises(BadManifest, match="dog"):
        run(write_manifest, tmp_path, "labels.parquet", {"a/1.png": "dog"}, "7")


def test_a_registration_reads_the_corrected_manifest(manifest):
    new = {"a/1.png": "dog", "a/2.png": 'fox "red"', "a/3.png": "=1+1"}
    found = run(write_manifest, manifest, "labels.csv", new)
    (manifest / "labels.csv").write_bytes(found)
    source = ManifestSource(str(manifest), "labels.csv")
    source.validate()
    labels = {entry.key: entry.label for entry in source.entries()}
    assert labels == new | {"a/4.png": "dog"}


APPLIES = pytest.mark.parametrize(
    "command",
    [["git", "apply", "-"], ["patch", "-p1", "--fuzz=0", "--binary"]],
    ids=["git", "patch"],
)


@APPLIES
@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_the_patch_makes_the_corrected_manifest(manifest, name, command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    new = {"a/1.png": "dog", "a/4.png": "9"}
    old = ("cat", "dog", "7")
    patch = run(write_patch, manifest, name, new, *old)
    expected = run(write_manifest, manifest, name, new, *old)
    assert patched(manifest, patch, name, command) == expected


@pytest.mark.parametrize("seed", range(6))
def test_any_patch_of_any_manifest_applies(tmp_path, seed):
    draw = random.Random(seed)
    count = draw.choice([1, 5, 40, 300])
    end = draw.choice(["\n", "\r\n", ""])
    rows = [
        f"{n}.png,cat,{draw.choice(['x', chr(34) + 'two' + chr(10) + 'lines' + chr(34)])}"
        for n in range(count)
    ]
    name = draw.choice(["labels.csv", "some labels.csv", 'm/ü "x".csv'])
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"path,label,note\n" + "\n".join(rows).encode() + end.encode())
    chosen = draw.sample(range(count), draw.randint(1, max(1, count // 3)))
    new = {f"{n}.png": "dog" for n in chosen}
    patch = run(write_patch, tmp_path, name, new)
    expected = run(write_manifest, tmp_path, name, new)
    assert patched(tmp_path, patch, name, ["git", "apply", "-"]) == expected
    with io.StringIO(expected.decode(), newline="") as text:
        dogs = [row[0] for row in csv.reader(text) if row[1] == "dog"]
    assert sorted(dogs) == sorted(new)


def test_what_the_owner_corrected_already_stays_as_it_is(manifest):
    found = run(write_manifest, manifest, "labels.csv", {"a/4.png": "dog"})
    assert found == CSV.encode()
    patch = run(write_patch, manifest, "labels.csv", {"a/4.png": "dog"})
    assert patch == b"--- a/labels.csv\n+++ b/labels.csv\n"


@pytest.mark.parametrize("write", [write_manifest, write_patch])
@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        ({"a/1.png": "dog"}, ("owl",), r"says 'cat' of a/1\.png now.*freeze a new"),
        ({"a/9.png": "dog", "a/1.png": "dog"}, ("cat",), "lists 1 of the 2 images"),
    ],
)
def test_a_manifest_that_says_something_else_now_is_refused(
    manifest, write, new, old, said
):
    with pytest.raises(ArtefactError, match=f"(?s){said}"):
        run(write, manifest, "labels.csv", new, *old)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"path,label\na/1.png,\xff\n"),
        ("x.csv", b"path,label\na/1.png\n"),
        ("x.csv", b'path,label\na/1.png,"cat\n'),
        ("x.csv", b'path,label\na/1.png,"cat"x\n'),
        ("x.csv", b'path,label\na/1.png,"' + b"cat\n" * 300_000),
        ("x.csv", b"file,class\na/1.png,cat\n"),
        ("x.csv", b""),
        ("x.jsonl", b'{"path":"a/1.png"}\n'),
        ("x.jsonl", b'["a/1.png","cat"]\n'),
        ("x.jsonl", b'{"path":"a/1.png",\n'),
        ("x.jsonl", b"[" * 100_000),
        ("x.parquet", b"PAR1 and no more"),
        ("x.parquet", b""),
    ],
)
def test_a_manifest_that_broke_since_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MiningError, match=name):
        run(write_manifest, tmp_path, name, {"a/1.png": "dog"})


def test_a_manifest_that_went_away_is_refused(tmp_path):
    with pytest.raises(MiningError, match="cannot be read any more"):
        run(write_manifest, tmp_path, "gone.csv", {"a/1.png": "dog"})
