"""The confusion matrix of a scan, as few numbers."""

from __future__ import annotations

from base64 import b64encode
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from reviewapp.access import access_one
from reviewapp.api.base import DatasetViewSet
from reviewapp.forms.matrices import ORDERS, SCALES, TOPS, MatrixForm
from reviewapp.matrices import Counts, Drawing, Places, draw
from reviewapp.models import Scan


class PackedSerializer(serializers.Serializer[Drawing]):
    """All cells row by row: unsigned little-endian numbers in base64.

    `ends` has for each row how many cells there are up to its end. A number of `columns`
    has 2 bytes; one of `counts` or `before` 1, 2 or 4: as the length says.
    """

    ends = serializers.ListField(child=serializers.IntegerField())
    columns = serializers.CharField()
    counts = serializers.CharField()
    before = serializers.CharField(allow_null=True)


class MatrixSerializer(serializers.Serializer[Drawing]):
    """The classes shown, in order, and for each of them the cells of its row.

    `columns` has the places of the cells that are not empty, counted from 0, `counts`
    their counts in the scan, `before` those in the scan `against`; with `cells=packed`
    all three are null, and `packed` has them. `support` and `predicted` are sums over all
    classes of the scan, shown or not.
    """

    scan = serializers.IntegerField()
    against = serializers.IntegerField(allow_null=True)
    of_classes = serializers.IntegerField(help_text="Classes, shown or not")
    errors = serializers.IntegerField(  # type: ignore[assignment]  # hides no result
        help_text="In the cells shown"
    )
    right = serializers.IntegerField(help_text="In the cells shown")
    classes = serializers.ListField(child=serializers.CharField())
    labels = serializers.ListField(child=serializers.IntegerField())
    columns = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), allow_null=True
    )
    counts = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), allow_null=True
    )
    packed = PackedSerializer(allow_null=True)
    before = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField()), allow_null=True
    )
    support = serializers.ListField(child=serializers.IntegerField())
    predicted = serializers.ListField(child=serializers.IntegerField())
    support_before = serializers.ListField(
        child=serializers.IntegerField(), allow_null=True
    )
    predicted_before = serializers.ListField(
        child=serializers.IntegerField(), allow_null=True
    )


class MatrixQuery(serializers.Serializer[Drawing]):
    """What the matrix is to show; what is left out is as on the page."""

    scale = serializers.ChoiceField(
        choices=SCALES, required=False, help_text="What `top` cells go by on the page"
    )
    order = serializers.ChoiceField(
        choices=ORDERS, required=False, help_text="Order of the classes"
    )
    top = serializers.ChoiceField(
        choices=TOPS, required=False, help_text="Only the classes with most errors"
    )
    right = serializers.ChoiceField(
        choices=[("show", "show"), ("hide", "hide")],
        required=False,
        help_text="The diagonal",
    )
    cells = serializers.ChoiceField(
        choices=[("lists", "lists"), ("packed", "packed")],
        required=False,
        help_text="How they come; a full matrix of 1,000 classes is slow as lists",
    )
    against = serializers.IntegerField(
        required=False, help_text="Id of another finished scan: `before` is its"
    )


@extend_schema(tags=["scans"])
class MatricesViewSet(DatasetViewSet[Scan]):
    """Confusion matrices, by the id of the scan."""

    queryset = Scan.objects.none()
    lookup_url_kwarg = "scan_id"

    def rows(self) -> QuerySet[Scan]:
        """Return the data set's scans."""
        return Scan.objects.for_dataset(self.dataset).with_names()

    @extend_schema(parameters=[MatrixQuery], responses=MatrixSerializer)
    def retrieve(self, request: Request, slug: str, scan_id: int) -> Response:
        """Return the matrix of a finished scan, or of two their common classes."""
        scan = access_one(self.rows(), pk=scan_id)
        given = request.query_params.dict()
        asked = self.read(MatrixQuery(data=given))
        form = MatrixForm(given, scan=scan)
        if not form.is_valid():
            raise serializers.ValidationError(
                {
                    name: [str(each) for each in said]
                    for name, said in form.errors.items()
                }
            )
        against = form.other_scan()
        drawing = draw(
            dataset=self.dataset, scan=scan, against=against, choice=form.choice()
        )
        about = {"scan": scan.pk, "against": against.pk if against else None}
        cells = _packed if asked.get("cells") == "packed" else _lists
        return Response(about | _sums(drawing) | cells(drawing))


def _sums(drawing: Drawing) -> dict[str, Any]:
    now, before = drawing.now, drawing.before
    return {
        "of_classes": drawing.classes,
        "errors": now.errors,
        "right": now.right,
        "classes": drawing.names,
        "labels": now.labels.tolist(),
        "support": now.support.tolist(),
        "predicted": now.predicted.tolist(),
        "support_before": before.support.tolist() if before else None,
        "predicted_before": before.predicted.tolist() if before else None,
    }


def _lists(drawing: Drawing) -> dict[str, Any]:
    rows, columns = drawing.filled()
    now, before = drawing.now, drawing.before
    ends = [0, *_ends(drawing, rows)]
    return {
        "columns": _by_row(columns, ends),
        "counts": _by_row(now.matrix[rows, columns], ends),
        "before": _by_row(before.matrix[rows, columns], ends) if before else None,
        "packed": None,
    }


def _packed(drawing: Drawing) -> dict[str, Any]:
    rows, columns = drawing.filled()
    now, before = drawing.now, drawing.before
    packed = {
        "ends": _ends(drawing, rows),
        "columns": _base64(columns.astype("<u2")),
        "counts": _base64(_short(now.matrix[rows, columns])),
        "before": _base64(_short(before.matrix[rows, columns])) if before else None,
    }
    return {"columns": None, "counts": None, "before": None, "packed": packed}


def _ends(drawing: Drawing, rows: Places) -> list[int]:
    each = np.arange(1, len(drawing.now.labels) + 1)
    ends: list[int] = np.searchsorted(rows, each).tolist()
    return ends


def _by_row(numbers: npt.NDArray[Any], ends: list[int]) -> list[list[int]]:
    flat = numbers.tolist()
    return [flat[start:end] for start, end in pairwise(ends)]


def _short(counts: Counts) -> npt.NDArray[Any]:
    kind = np.min_scalar_type(int(counts.max(initial=0)))
    return counts.astype(kind.newbyteorder("<"))


def _base64(numbers: npt.NDArray[Any]) -> str:
    return b64encode(numbers.tobytes()).decode("ascii")
