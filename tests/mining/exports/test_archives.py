"""ZIPs with images; read back by `datasets` and by the rules of FiftyOne's importer.

FiftyOne itself brings a database server and a hundred packages: what is checked here is what
`FiftyOneImageClassificationDatasetImporter` of FiftyOne 1.13 reads, and that importer was
given such a file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from mining.exceptions import ArtefactError
from mining.exports import write_class_folders, write_fiftyone, write_imagefolder
from mining.exports.names import folder_names, safe_name
from mining.fixset import FixRow
from tests.images import SIDE, write_image
from tests.mining.exports.rows import ROWS, image, members, row, written


def zipped(rows, open_image=image) -> bytes:
    labels = sorted({row.label for row in rows})
    return written(write_class_folders, rows, open_image, labels=labels)


def fiftyone(rows, open_image=image) -> bytes:
    labels = sorted({row.label for row in rows})
    return written(write_fiftyone, rows, open_image, labels=labels)


def imagefolder(rows, open_image=image) -> bytes:
    return written(write_imagefolder, rows, open_image)


WRITERS = pytest.mark.parametrize("write", [zipped, fiftyone, imagefolder])


def test_the_zip_has_a_folder_per_label_and_a_manifest():
    found = members(zipped(ROWS))
    manifest = list(csv.DictReader(io.StringIO(found.pop("manifest.csv").decode())))
    assert [line["file"].partition("/")[0] for line in manifest] == [
        "dog",
        "cat",
        "dog",
    ]
    assert {line["file"] for line in manifest} == set(found)
    for line in manifest:
        assert found[line["file"]] == f"pixels of {line['sample_key']}".encode()


@WRITERS
def test_the_same_rows_give_the_same_bytes(write):
    assert write(ROWS) == write(list(ROWS))


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
        "漢" * 80,
        "/abs",
        "",
        " ",
        "…",
    ],
)
@WRITERS
def test_hostile_labels_and_names_stay_inside(write, name):
    found = members(write([row(f"a/{name}", label=name or "-")]))
    for place in found:
        parts = place.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert not {"\\", ":", "\n"} & set(place)
        assert max(len(part.encode()) for part in parts) <= 255


def test_two_labels_never_share_a_folder():
    labels = ["FOX", "a/b", "a:b", "a_b", "fox"]
    rows = [row(f"a/{n}.png", label=label) for n, label in enumerate(labels)]
    folders = {name.partition("/")[0] for name in members(zipped(rows))}
    assert len({folder.casefold() for folder in folders - {"manifest.csv"}}) == 5
    # One that is spelt like what another gets.
    names = folder_names(["Fox", "fox", "fox-776cb326"])
    assert len({name.casefold() for name in names.values()}) == 3


@pytest.mark.parametrize("name", ["con", "NUL", "com1", "aux.png"])
def test_no_folder_is_a_device_of_windows(name):
    assert safe_name(name).partition(".")[0].startswith(f"{name.partition('.')[0]}-")


@WRITERS
def test_the_suffix_of_an_odd_name_is_kept(write):
    assert any(place.endswith(".png") for place in members(write([row("a/x y?.png")])))


@WRITERS
def test_files_of_one_name_in_two_folders_are_two(write):
    found = members(write([row("a/1.png"), row("b/1.png")]))
    assert {b"pixels of a/1.png", b"pixels of b/1.png"} <= set(found.values())


@WRITERS
def test_an_image_that_is_listed_twice_is_written_once(write):
    found = members(write([row(predicted="dog"), row(predicted="owl", p_true=0.01)]))
    assert len(found) == 2
    text = b"".join(found.values()).decode()
    if write is zipped:
        assert text.count("a/1.png,") == 2
    else:
        assert '"predicted":"owl"' in text  # the harder one
        assert '"predicted":"dog"' not in text


@WRITERS
def test_an_image_with_two_labels_is_refused(write):
    rows = [row(label="cat"), row(predicted="owl", label="dog")]
    with pytest.raises(ArtefactError, match=r"a/1\.png has two labels.*cat and dog"):
        write(rows)


@WRITERS
def test_an_image_that_changed_since_the_review_is_refused(write):
    with pytest.raises(ArtefactError, match=r"a/1\.png changed since it was reviewed"):
        write([row()], lambda _: b"other pixels")


def real_rows(folder: Path) -> list[FixRow]:
    """Return rows of images that can be decoded, two of each split."""
    return [
        row(
            key := f"p/{n}.png",
            digest=hashlib.sha256(
                write_image(folder / key, 60, seed=n).read_bytes()
            ).hexdigest(),
            split=("train", "val", "test", "")[n % 4],
            label=("cat", "dog")[n % 2],
            causes=() if n < 3 else ("blur",),
        )
        for n in range(8)
    ]


def test_datasets_reads_the_imagefolder(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="make formats has it")
    rows = real_rows(tmp_path)
    data = imagefolder(rows, lambda row: (tmp_path / row.sample_key).read_bytes())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path / "set")
    found = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "set"), cache_dir=str(tmp_path / "cache")
    )
    sizes = {name: len(part) for name, part in found.items()}
    assert sizes == {"train": 4, "validation": 2, "test": 2}
    read = {line["sample_key"]: line for part in found.values() for line in part}
    assert {key: line["label"] for key, line in read.items()} == {
        row.sample_key: row.label for row in rows
    }
    assert {line["p_true"] for line in read.values()} == {0.125}
    assert {line["image"].size for line in read.values()} == {(SIDE, SIDE)}


def test_fiftyones_importer_finds_each_image_and_its_label():
    found = members(fiftyone(ROWS))
    labels = json.loads(found.pop("labels.json"))
    # The importer knows images by their name below data/ without its last suffix.
    images = {str(PurePosixPath(name).with_suffix("")): found[name] for name in found}
    assert set(labels) == {"classes", "labels"}
    assert {f"data/{uuid}" for uuid in labels["labels"]} == set(images)
    for uuid, target in labels["labels"].items():
        key = target["attributes"]["sample_key"]
        assert images[f"data/{uuid}"] == f"pixels of {key}".encode()
        (expected,) = [row for row in ROWS if row.sample_key == key]
        assert labels["classes"][target["label"]] == expected.label
        # They become fields beside these of a classification.
        assert not {"label", "confidence", "logits", "id", "tags"} & set(
            target["attributes"]
        )
        assert target["attributes"]["predicted_confidence"] == 0.75
