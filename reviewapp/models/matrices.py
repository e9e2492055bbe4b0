"""The confusion matrix of a finished scan in one row, for pages that show all of it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from django.contrib.postgres.fields import ArrayField
from django.db import models

from reviewapp.models.scans import Scan

_CELL: Final = np.dtype([("row", "<u2"), ("column", "<u2"), ("count", "<u4")])


class ScanMatrix(models.Model):
    """What a scan's `ConfusionCount` rows say, and its costly order of the classes.

    A quarter of a million rows take half a second to read, this one 10 ms. It is made
    when it is first asked for and never changes: neither do the facts of a scan.
    """

    scan = models.OneToOneField(
        Scan, models.CASCADE, primary_key=True, related_name="matrix"
    )
    cells = models.BinaryField(
        help_text="Row, column (places in the scan's classes) and count of each cell"
    )
    cluster = ArrayField(
        models.PositiveIntegerField(),
        help_text="Places in the scan's classes, those confused with each other together",
    )

    def __str__(self) -> str:
        return f"matrix of scan {self.scan_id}"

    @staticmethod
    def pack(matrix: npt.NDArray[np.int64]) -> bytes:
        """Return the cells of a matrix (K, K), K <= 65,536, that are not 0."""
        rows, columns = np.nonzero(matrix)
        cells = np.empty(len(rows), _CELL)
        cells["row"], cells["column"] = rows, columns
        cells["count"] = matrix[rows, columns]
        return cells.tobytes()

    def counts(self, n_classes: int) -> npt.NDArray[np.int32]:
        """Return int32 (K, K), rows true, columns predicted, in the scan's classes."""
        cells = np.frombuffer(self.cells, _CELL)
        matrix = np.zeros((n_classes, n_classes), np.int32)
        matrix[cells["row"], cells["column"]] = cells["count"]
        return matrix
