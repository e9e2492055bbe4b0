"""Keeping the confusion matrix of a finished scan in one row."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from django.db import transaction

from mining.ordering import order_classes
from reviewapp.exceptions import Refused
from reviewapp.models import Scan, ScanMatrix

MOST_CLASSES: Final = 2000  # putting more in order takes a minute and gigabytes


def keep_matrix(*, scan: Scan) -> ScanMatrix:
    """Return the kept matrix of a finished scan of 2 to 2,000 classes.

    Made when it is first asked for: 1,000 classes take about a second, once.

    Raises:
        Refused: The scan is not done, or has too few or too many classes.
    """
    _require_matrix(scan)
    if kept := ScanMatrix.objects.filter(scan=scan).first():
        return kept
    with transaction.atomic():
        # Of those who look at a new scan at the same moment one makes it for all.
        Scan.objects.select_for_update(of=("self",), no_key=True).get(pk=scan.pk)
        if kept := ScanMatrix.objects.filter(scan=scan).first():
            return kept
        matrix = _counted(scan)
        names = [""] * len(matrix)
        return ScanMatrix.objects.create(
            scan=scan,
            cells=ScanMatrix.pack(matrix),
            cluster=order_classes(matrix, names, "cluster").tolist(),
        )


def _require_matrix(scan: Scan) -> None:
    if not scan.is_done:
        raise Refused(
            f"Scan {scan.pk} is {scan.get_state_display()}: it has no matrix yet. Wait "
            "until it is done, or resume it."
        )
    if not 2 <= len(scan.classes) <= MOST_CLASSES:
        raise Refused(
            f"A matrix is of 2 to {MOST_CLASSES:,} classes; scan {scan.pk} has "
            f"{len(scan.classes):,}. Its confusions are listed under Confusions."
        )


def _counted(scan: Scan) -> npt.NDArray[np.int64]:
    place = {label: at for at, label in enumerate(scan.classes)}
    matrix = np.zeros((len(place), len(place)), np.int64)
    counts = scan.confusion_counts.values_list("true_label", "predicted_label", "count")
    for true, predicted, count in counts.iterator():
        matrix[place[true], place[predicted]] = count
    return matrix
