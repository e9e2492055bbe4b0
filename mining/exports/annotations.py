"""Fix sets as annotation files without images: COCO, Label Studio and CVAT."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, BinaryIO, Final

from mining.exports.names import path_of
from mining.exports.rows import by_image
from mining.exports.zipping import zip_to
from mining.fixset import FixRow

# What XML 1.0 cannot hold, not even as a reference.
_NOT_XML: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_BREAKS: Final = str.maketrans({"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"})


def write_coco(
    rows: Iterable[FixRow], file: BinaryIO, *, labels: Sequence[str], digest: str
) -> int:
    """Write COCO JSON for classification: an annotation per image, without a box.

    `file_name` is the path below the data set's root. `category_id` is the label to train
    with; what is known besides lies in the annotation's `attributes`.

    Args:
        rows: In order.
        file: Opened for writing bytes.
        labels: All labels to train with; categories count from 1 in this order.
        digest: Of the fix set; its `version`.
    """
    number = {label: index for index, label in enumerate(labels, start=1)}
    categories = [{"id": number[label], "name": label} for label in labels]
    info = {"description": "Hardmine fix set", "version": digest}
    count = images = 0
    file.write(b'{"info":' + _json(info) + b',"licenses":[],"categories":')
    file.write(_json(categories) + b',"images":[')
    with tempfile.TemporaryFile() as spool:
        for images, same in enumerate(by_image(rows), start=1):
            row, comma = same[0], b",\n" if images > 1 else b"\n"
            image = {"id": images, "file_name": path_of(row.sample_key)}
            annotation = {
                "id": images,
                "image_id": images,
                "category_id": number[row.label],
                "iscrowd": 0,
                "attributes": row.as_dict(),
            }
            file.write(comma + _json(image))
            spool.write(comma + _json(annotation))
            count += len(same)
        file.write(b'],"annotations":[')
        spool.seek(0)
        shutil.copyfileobj(spool, file)
    file.write(b"]}\n")
    return count


def write_label_studio(
    rows: Iterable[FixRow],
    file: BinaryIO,
    *,
    labels: Sequence[str],
    image_url: Callable[[FixRow], str],
) -> int:
    """Write a ZIP with `config.xml`, the labelling interface, and `tasks.json`.

    Each image is a task: the reviewed label as its annotation, what each model said as a
    prediction with its confidence as the score.

    Args:
        rows: In order.
        file: Opened for writing bytes.
        labels: The choices: every label to train with and every prediction.
        image_url: Returns what Label Studio opens for a row's image.
    """
    count = 0
    with tempfile.TemporaryFile() as spool, zip_to(file) as archive:
        archive.add("config.xml", _interface(labels).encode())
        for same in by_image(rows):
            spool.write(b",\n" if count else b"[\n")
            spool.write(_json(_task(same, image_url)))
            count += len(same)
        spool.write(b"\n]\n" if count else b"[]\n")
        archive.add_file("tasks.json", spool)
    return count


def _interface(labels: Sequence[str]) -> str:
    choices = "".join(f"    <Choice value={_quoted(label)}/>\n" for label in labels)
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="label" toName="image">\n{choices}  </Choices>\n</View>\n'
    )


def _task(same: Sequence[FixRow], image_url: Callable[[FixRow], str]) -> dict[str, Any]:
    row = same[0]
    return {
        "data": row.as_dict() | {"image": image_url(row)},
        "annotations": [{"result": [_choice(row.label)]}],
        "predictions": [
            {"score": each.confidence, "result": [_choice(each.predicted)]}
            for each in same
        ],
    }


def _choice(label: str) -> dict[str, Any]:
    return {
        "from_name": "label",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [label]},
    }


def write_cvat(rows: Iterable[FixRow], file: BinaryIO, *, labels: Sequence[str]) -> int:
    """Write CVAT's own XML ("CVAT for images 1.1"): the label as a tag of its image.

    CVAT finds the image of a task by its `name`, the path below the data set's root. XML
    has no control characters but tab and line breaks: others are written as in keys.
    """
    count = images = 0
    file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
    file.write(b"  <version>1.1</version>\n  <meta><task><labels>\n")
    for label in labels:
        file.write(f"    <label><name>{_text(label)}</name></label>\n".encode())
    file.write(b"  </labels></task></meta>\n")
    for images, same in enumerate(by_image(rows)):
        name = _quoted(path_of(same[0].sample_key))
        tag = f'<tag label={_quoted(same[0].label)} source="manual"/>'
        file.write(f'  <image id="{images}" name={name}>{tag}</image>\n'.encode())
        count += len(same)
    file.write(b"</annotations>\n")
    return count


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _text(value: str) -> str:
    return escape(_NOT_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", value))


def _quoted(value: str) -> str:
    return f'"{_text(value).translate(_BREAKS)}"'
