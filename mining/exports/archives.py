"""Fix sets as ZIPs that carry the images, in the folders that other tools expect."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, Final

from mining.exceptions import ArtefactError
from mining.exports.names import folder_names, image_name
from mining.exports.rows import by_image
from mining.exports.tables import cells, table
from mining.exports.zipping import zip_to
from mining.fixset import COLUMNS, FixRow

OpenImage = Callable[[FixRow], bytes]
# The folders that `datasets` takes for splits; images without one are to be trained with.
_SPLITS: Final = {"": "train", "val": "validation"}


def write_class_folders(
    rows: Iterable[FixRow],
    file: BinaryIO,
    open_image: OpenImage,
    *,
    labels: Sequence[str],
) -> int:
    """Write a ZIP with one folder per label to train with.

    `manifest.csv` says in its column `file` where each row's image is, otherwise as
    `write_csv`. Characters that some file system refuses are replaced.

    Args:
        rows: In order.
        file: Opened for writing bytes.
        open_image: Returns the bytes of a row's image.
        labels: All labels to train with.

    Raises:
        ArtefactError: An image changed since it was reviewed; the file must be thrown away.
    """
    folders = folder_names(labels)
    count = 0
    with tempfile.TemporaryFile() as spool, zip_to(file) as archive:
        with table(spool, ("file", *COLUMNS)) as add:
            for same in by_image(rows):
                place = f"{folders[same[0].label]}/{image_name(same[0].sample_key)}"
                archive.add(place, _checked_image(same[0], open_image))
                for row in same:
                    add([place, *cells(row)])
                count += len(same)
        archive.add_file("manifest.csv", spool)
    return count


def write_imagefolder(
    rows: Iterable[FixRow], file: BinaryIO, open_image: OpenImage
) -> int:
    """Write a ZIP that `datasets.load_dataset("imagefolder", …)` reads.

    Each split is a folder with its own `metadata.jsonl`. An image on which several models
    fail has one line, the hardest one.

    Raises:
        ArtefactError: An image changed since it was reviewed; the file must be thrown away.
    """
    count = 0
    spools: dict[str, IO[bytes]] = {}
    with ExitStack() as stack, zip_to(file) as archive:
        for same in by_image(rows):
            row = same[0]
            place = f"images/{image_name(row.sample_key)}"
            split = _SPLITS.get(row.split, row.split)
            if split not in spools:
                spools[split] = stack.enter_context(tempfile.TemporaryFile())
            archive.add(f"{split}/{place}", _checked_image(row, open_image))
            line = {"file_name": place} | dict(zip(COLUMNS, cells(row), strict=True))
            spools[split].write(_json(line) + b"\n")
            count += len(same)
        for split in sorted(spools):
            archive.add_file(f"{split}/metadata.jsonl", spools[split])
    return count


def write_fiftyone(
    rows: Iterable[FixRow],
    file: BinaryIO,
    open_image: OpenImage,
    *,
    labels: Sequence[str],
) -> int:
    """Write a ZIP in the format `FiftyOneImageClassificationDataset`.

    The label to train with is the classification; the rest are its attributes. An image on
    which several models fail has those of the hardest row.

    Raises:
        ArtefactError: An image changed since it was reviewed; the file must be thrown away.
    """
    number = {label: index for index, label in enumerate(labels)}
    count = 0
    with tempfile.TemporaryFile() as spool, zip_to(file) as archive:
        spool.write(b'{"classes":' + _json(list(labels)) + b',"labels":{')
        for same in by_image(rows):
            row = same[0]
            name = image_name(row.sample_key)
            archive.add(f"data/{name}", _checked_image(row, open_image))
            target = {"label": number[row.label], "attributes": _attributes(row)}
            comma = b"," if count else b""
            spool.write(comma + _json(PurePosixPath(name).stem) + b":" + _json(target))
            count += len(same)
        spool.write(b"}}")
        archive.add_file("labels.json", spool)
    return count


def _attributes(row: FixRow) -> dict[str, object]:
    """Return what FiftyOne keeps beside a label; `confidence` is a field of its own there."""
    values = row.as_dict() | {"predicted_confidence": row.confidence}
    return {
        name: values[name] for name in values if name not in ("label", "confidence")
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _checked_image(row: FixRow, open_image: OpenImage) -> bytes:
    data = open_image(row)
    if hashlib.sha256(data).hexdigest() != row.digest:
        raise ArtefactError(
            f"{row.sample_key} changed since it was reviewed. Nothing was exported; the"
            " reviews are kept. Put the old image back, or register the data set again."
        )
    return data
