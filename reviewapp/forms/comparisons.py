"""Choosing two scans to compare."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from reviewapp.forms.choices import Menu
from reviewapp.models import Comparison, Dataset, Scan
from reviewapp.templatetags.hardmine import percent

OFFERED: Final = 200  # the last finished scans


class ComparisonForm(forms.Form):
    """A candidate, the baseline it is held against, and the labels to score both with."""

    candidate = forms.ModelChoiceField(
        label="Candidate", queryset=Scan.objects.none(), widget=Menu
    )
    baseline = forms.ModelChoiceField(
        label="Baseline",
        queryset=Scan.objects.none(),
        widget=Menu,
        help_text="What the candidate is held against: the version in use, say.",
    )
    labels = forms.ChoiceField(
        label="Labels",
        choices=Comparison.Labels.choices,
        help_text="Both scans are scored with the same ones.",
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        finished = Scan.objects.for_dataset(dataset).finished()
        self.scans = list(finished.lean().defer("classes").newest_first()[:OFFERED])
        offered = [(scan.pk, _in_words(scan)) for scan in self.scans]
        for name in ("candidate", "baseline"):
            self.fields[name].queryset = finished  # type: ignore[attr-defined]
            self.fields[name].widget.choices = offered
        self._offer_the_last_two()

    def clean(self) -> dict[str, Any]:
        """Refuse a scan against itself."""
        data: dict[str, Any] = super().clean() or {}
        if data.get("candidate") and data.get("candidate") == data.get("baseline"):
            self.add_error("baseline", "This is the candidate. Choose another scan.")
        return data

    def _offer_the_last_two(self) -> None:
        """Take the last scan, and the one before it of the same model and split."""
        if not self.scans:
            return
        last, *earlier = self.scans
        model = last.model_version.registered_model
        alike = [
            scan
            for scan in earlier
            if scan.model_version.registered_model == model and scan.split == last.split
        ]
        self.initial.setdefault("candidate", last.pk)
        self.initial.setdefault("baseline", next(iter(alike or earlier), last).pk)


def _in_words(scan: Scan) -> str:
    return (
        f"{scan.pk}: {scan.model_version}, {scan.split or 'every split'}, "
        f"{scan.created_at:%Y-%m-%d}, {percent(scan.accuracy)} right"
        + (", in-sample" if scan.is_in_sample else "")
        + (", out-of-fold" if scan.folds else "")
    )
