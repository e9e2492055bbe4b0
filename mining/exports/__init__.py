"""Fix sets as files for other tools, written row by row in constant memory.

Writers take rows in the order of `sample_key`, then `predicted`, both by code point, read
them once, and return how many they read. The same rows give the same bytes. Those of a
manifest ask for the corrections of some keys at a time instead.
"""

from __future__ import annotations

from mining.exports.annotations import write_coco, write_cvat, write_label_studio
from mining.exports.archives import (
    write_class_folders,
    write_fiftyone,
    write_imagefolder,
)
from mining.exports.manifests import (
    Correction,
    write_manifest,
    write_moves,
    write_patch,
)
from mining.exports.tables import write_csv, write_jsonl, write_parquet

__all__ = [
    "Correction",
    "write_class_folders",
    "write_coco",
    "write_csv",
    "write_cvat",
    "write_fiftyone",
    "write_imagefolder",
    "write_jsonl",
    "write_label_studio",
    "write_manifest",
    "write_moves",
    "write_parquet",
    "write_patch",
]
