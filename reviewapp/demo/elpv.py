"""Photographs of solar cells: the data set of the package elpv-dataset.

2,624 cells in electroluminescence images, each with the probability that it is defective
as experts gave it: 0, 1/3, 2/3 or 1.
"""

from __future__ import annotations

import csv
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mining.exceptions import MiningError
from reviewapp.demo.folders import whole_folder

if TYPE_CHECKING:
    from reviewapp.demo.recipes import Track

# In the order of the probability, which is also that of the alphabet.
GRADES = ("functional", "mild", "moderate", "severe")


def split_of(row: int) -> str:
    """Return the split of a row, counted from 0: every third one tests.

    >>> [split_of(row) for row in (0, 1, 2, 3)]
    ['val', 'train', 'test', 'train']
    """
    if row % 3 == 2:
        return "test"
    return "val" if row % 10 == 0 else "train"


def prepare_elpv(folder: Path, track: Track) -> None:
    """Copy the package's photographs to `folder`, with a manifest.

    Raises:
        MiningError: The package is not installed.
    """
    # Imported, the package would load all its images' readers; its files are enough.
    package = find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise MiningError(
            "The package elpv-dataset is not installed. Install the extra 'demo': "
            "pip install -c constraints.txt -e '.[demo]'"
        )
    source = Path(package.origin).parent / "data"
    lines = [line.split() for line in (source / "labels.csv").read_text().splitlines()]
    with whole_folder(folder) as partial, track("Copying", len(lines)) as meter:
        (partial / "images").mkdir()
        with (partial / "manifest.csv").open("w", newline="") as file:
            manifest = csv.writer(file)
            manifest.writerow(["path", "label", "split", "probability", "type"])
            for row, (path, probability, kind) in enumerate(lines):
                shutil.copyfile(source / path, partial / path)
                grade = GRADES[round(3 * float(probability))]
                manifest.writerow([path, grade, split_of(row), probability, kind])
                meter.advance()
