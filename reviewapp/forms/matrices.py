"""What a confusion matrix is to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django import forms

from mining.ordering import By
from reviewapp.access import id_from
from reviewapp.forms.choices import Menu
from reviewapp.matrices import Choice, Scale
from reviewapp.models import Scan

OFFERED: Final = 200  # the last finished scans
MANY: Final = 100  # more classes are not all shown unless asked for
ORDERS: Final[list[tuple[By, str]]] = [
    ("cluster", "confused ones together"),
    ("errors", "most errors first"),
    ("size", "most images first"),
    ("name", "by name"),
]
SCALES: Final[list[tuple[Scale, str]]] = [
    ("counts", "images"),
    ("actual", "share of the actual class"),
    ("predicted", "share of the predicted class"),
]
TOPS: Final = [*((str(n), str(n)) for n in (10, 25, 50, 100, 250)), ("all", "all")]


class MatrixForm(forms.Form):
    """Order, scale and part of a scan's matrix; what is not given is as usual."""

    scale = forms.ChoiceField(label="Show", choices=SCALES)
    order = forms.ChoiceField(label="Order of classes", choices=ORDERS)
    top = forms.ChoiceField(label="Classes with most errors", choices=TOPS)
    right = forms.ChoiceField(
        label="Diagonal", choices=[("show", "show"), ("hide", "hide: errors alone")]
    )
    against = forms.ModelChoiceField(
        label="Difference to scan",
        queryset=Scan.objects.none(),
        required=False,
        widget=Menu,
    )

    def __init__(self, given: Mapping[str, str], *, scan: Scan) -> None:
        self.usual = {
            "scale": "counts",
            "order": "cluster",
            "top": str(MANY) if len(scan.classes) > MANY else "all",
            "right": "show",
        }
        named = {name: given[name] for name in self.base_fields if name in given}
        super().__init__({**self.usual, **named})
        self.others = (
            Scan.objects.for_dataset(scan.dataset).finished().exclude(pk=scan.pk)
        )
        against: Any = self.fields["against"]
        against.queryset = self.others.with_names()

    def offer_scans(self) -> None:
        """Give the menu of other scans its choices, the one chosen among them."""
        last = self.others.lean().defer("classes").newest_first()
        offered = {each.pk: each for each in last[:OFFERED]}
        asked = id_from(self.data.get("against", ""))
        if asked and asked not in offered:
            offered |= {each.pk: each for each in last.filter(pk=asked)}
        self.fields["against"].widget.choices = [
            ("", "none"),
            *((each.pk, _in_words(each)) for each in offered.values()),
        ]

    def choice(self) -> Choice:
        """Return what is asked for; what makes no sense is as usual."""
        self.is_valid()  # reads the fields, if nobody did yet
        read = self.usual | {name: v for name, v in self.cleaned_data.items() if v}
        return Choice(
            order=read["order"],
            top=None if read["top"] == "all" else int(read["top"]),
            scale=read["scale"],
            right=read["right"] == "show",
        )

    def other_scan(self) -> Scan | None:
        """Return the scan that this one is held against; call it after `choice`."""
        return self.cleaned_data.get("against")


def _in_words(scan: Scan) -> str:
    return f"{scan.pk}: {scan.model_version}, {scan.split or 'every split'}"
