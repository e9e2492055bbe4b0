"""COCO, Label Studio and CVAT; read back by pycocotools and by Label Studio's own check.

CVAT has no package to read its XML with: it is checked against what the loader of CVAT's
server takes from it (`load_anno` of cvat/apps/dataset_manager/formats/cvat.py), an `image`
with `id` and `name` and a `tag` with `label`, and against the labels that `meta` declares.
"""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from xml.etree import ElementTree

import pytest
from pycocotools.coco import COCO

from mining.exports import write_coco, write_cvat, write_label_studio
from tests.mining.exports.rows import ROWS, members, row, written

HOSTILE = '<a> & "b"\t\n\x01…\u2028.png'


def labels_of(rows) -> list[str]:
    return sorted({row.label for row in rows})


def coco(rows) -> bytes:
    return written(write_coco, rows, labels=labels_of(rows), digest="0" * 64)


def label_studio(rows) -> dict[str, bytes]:
    labels = sorted({label for row in rows for label in (row.label, row.predicted)})
    return members(
        written(
            write_label_studio,
            rows,
            labels=labels,
            image_url=lambda row: f"/data/{row.sample_key}",
        )
    )


def cvat(rows) -> ElementTree.Element:
    return ElementTree.fromstring(written(write_cvat, rows, labels=labels_of(rows)))


def test_pycocotools_reads_the_coco_file(tmp_path):
    path = tmp_path / "set.json"
    path.write_bytes(coco([*ROWS, row("é/4\\\\5.png")]))
    with contextlib.redirect_stdout(io.StringIO()):
        read = COCO(str(path))
    assert [c["name"] for c in read.loadCats(read.getCatIds())] == ["cat", "dog"]
    dogs = read.getImgIds(catIds=read.getCatIds(catNms=["dog"]))
    names = [image["file_name"] for image in read.loadImgs(sorted(dogs))]
    assert names == ["a/1.png", "é/3.png", "é/4\\5.png"]
    (annotation,) = read.loadAnns(read.getAnnIds(imgIds=[2]))
    assert annotation["attributes"]["sample_key"] == "b/2.png"
    assert (annotation["attributes"]["verdict"], annotation["iscrowd"]) == (
        "confirm",
        0,
    )


def test_coco_has_one_image_for_two_findings_of_it():
    data = json.loads(coco([row(predicted="dog"), row(predicted="owl"), ROWS[1]]))
    assert [image["file_name"] for image in data["images"]] == ["a/1.png", "b/2.png"]
    assert [a["image_id"] for a in data["annotations"]] == [1, 2]


@pytest.mark.parametrize("rows", [ROWS, [row(HOSTILE, label='a"<&', predicted="…")]])
def test_label_studios_own_check_takes_the_tasks(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses names that pydantic wants to drop
        sdk = pytest.importorskip(
            "label_studio_sdk.label_interface", reason="make formats has it"
        )
    found = label_studio(rows)
    interface = sdk.LabelInterface(found["config.xml"].decode())
    interface.validate()
    tasks = json.loads(found["tasks.json"])
    assert [task["data"]["image"] for task in tasks] == [
        f"/data/{row.sample_key}" for row in rows
    ]
    for task, expected in zip(tasks, rows, strict=True):
        assert interface.validate_task({"data": task["data"]})
        (annotation,), (prediction,) = task["annotations"], task["predictions"]
        assert interface.validate_annotation(annotation)
        assert interface.validate_prediction(prediction, return_errors=True) == []
        assert annotation["result"][0]["value"] == {"choices": [expected.label]}
        assert prediction["result"][0]["value"] == {"choices": [expected.predicted]}
        assert prediction["score"] == expected.confidence


def test_label_studio_has_a_prediction_of_each_model():
    found = label_studio([row(predicted="dog"), row(predicted="owl", p_true=0.01)])
    (task,) = json.loads(found["tasks.json"])
    said = [p["result"][0]["value"]["choices"] for p in task["predictions"]]
    assert said == [["owl"], ["dog"]]  # the harder one first


def test_cvat_finds_images_by_name_and_knows_each_label():
    root = cvat(ROWS)
    declared = [name.text for name in root.findall("./meta/task/labels/label/name")]
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    images = root.findall("image")
    assert [image.get("id") for image in images] == ["0", "1", "2"]
    assert [image.get("name") for image in images] == [row.sample_key for row in ROWS]
    assert [image.find("tag").get("label") for image in images] == ["dog", "cat", "dog"]
    assert declared == ["cat", "dog"]


def test_cvat_holds_hostile_names_and_escapes_what_xml_cannot():
    (image,) = cvat([row(HOSTILE, label='a"<&')]).findall("image")
    assert image.get("name") == HOSTILE.replace("\x01", "\\x01")
    assert image.find("tag").get("label") == 'a"<&'


def test_sets_without_rows_are_readable():
    assert json.loads(coco([]))["annotations"] == []
    assert json.loads(label_studio([])["tasks.json"]) == []
    assert cvat([]).findall("image") == []
