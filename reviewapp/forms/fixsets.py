"""The form of a new fix set: a name, and a filter over the findings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from django import forms

from reviewapp.actions.fixsets import Preview, freeze_fix_set, preview_fix_set
from reviewapp.filters import FindingFilter, FixableFilter
from reviewapp.models import Dataset, Finding, FixSet

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet


class FixSetForm(forms.Form):
    """A name and, as `query`, the findings' filter; both read the same data."""

    name = forms.CharField(
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="What the set is for, e.g. cats in the dark, June.",
    )

    def __init__(
        self, data: Mapping[str, Any] | None = None, *, dataset: Dataset
    ) -> None:
        super().__init__(data)
        self.dataset = dataset
        # Bound even without data, so that a fresh page shows what all findings give.
        self.query = FixableFilter(
            data or {}, Finding.objects.for_dataset(dataset), dataset=dataset
        )

    def is_valid(self) -> bool:
        """Return whether the name and every field of the filter can be used."""
        return super().is_valid() and self.query.is_valid()

    def preview(self) -> Preview:
        """Count what would be frozen now; call it when `query` is valid."""
        return preview_fix_set(findings=cast("FindingQuerySet", self.query.qs))

    def freeze(self, *, by: User) -> FixSet:
        """Freeze what matches; call it on a valid form.

        Raises:
            Refused: The name is taken, or there is nothing to freeze.
        """
        return freeze_fix_set(
            dataset=self.dataset,
            name=self.cleaned_data["name"],
            findings=cast("FindingQuerySet", self.query.qs),
            by=by,
            filter=self.chosen(),
        )

    def chosen(self) -> dict[str, str]:
        """Return the filter's filled fields; a label or model by its name."""
        return {
            name: str(value)
            for name, value in self.query.form.cleaned_data.items()
            if value not in (None, "")
        }


def filter_in_words(chosen: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (what the field is called, its value) of a stored filter."""
    fields = FindingFilter.base_filters
    return [
        (str(fields[name].label) if name in fields else name, _choice(name, value))
        for name, value in chosen.items()
    ]


def _choice(name: str, value: str) -> str:
    field = FindingFilter.base_filters.get(name)
    given = field.extra.get("choices", ()) if field else ()
    # Either pairs or an enumeration that has them.
    return str(dict(getattr(given, "choices", given)).get(value, value))
