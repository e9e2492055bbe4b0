"""The form of a new fix set: a name, a filter over the findings, guards and a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from django import forms
from django.http import QueryDict

from mining.guards import REASONS
from reviewapp.actions.fixsets import Preview, freeze_fix_set, preview_fix_set
from reviewapp.fixable import FixableFilter
from reviewapp.forms.recipes import RecipeForm
from reviewapp.models import Dataset, Finding, FixSet, HeldItem, Standing

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet

# Of the filter's fields, those that are shown without asking.
SHOWN: Final = (
    "confusions",
    "lane",
    "split",
    "cause",
    "registered_model",
    "agreement",
    "reviewed_from",
    "reviewed_to",
)
CONFUSIONS: Final = 100  # in the menu; any other can be given by the API


class FixSetForm(forms.Form):
    """A name and the guards; as `query` the findings' filter and as `recipe` its settings.

    All read the same data.
    """

    name = forms.CharField(
        max_length=100,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="What the set is for, e.g. cats in the dark, June.",
    )
    include = forms.MultipleChoiceField(
        label="Let in",
        choices=[(name, HeldItem.Reason(name).label) for name in REASONS],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text="Held aside unless you let them in.",
    )

    def __init__(
        self, data: Mapping[str, Any] | None = None, *, dataset: Dataset
    ) -> None:
        super().__init__(data)
        self.dataset = dataset
        # Bound even without data, so that a fresh page shows what all findings give.
        self.query = FixableFilter(
            data or QueryDict(), Finding.objects.for_dataset(dataset), dataset=dataset
        )
        self.recipe = RecipeForm(data)
        self._offer_confusions()

    def _offer_confusions(self) -> None:
        """Offer the confusions that have verdicts, the most reviewed first."""
        rows = Standing.objects.for_dataset(self.dataset).filter(
            kind=Finding.Kind.MISCLASSIFIED, reviewed__gt=0
        )
        names = dict(self.dataset.labels.values_list("pk", "name"))
        totals: dict[tuple[int, int], int] = {}
        for true, predicted, n in rows.values_list(
            "true_label_id", "predicted_label_id", "reviewed"
        ):
            totals[true, predicted] = totals.get((true, predicted), 0) + n
        most = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
        field = cast(forms.MultipleChoiceField, self.query.form.fields["confusions"])
        field.choices = [
            (f"{true}:{predicted}", f"{names[true]} → {names[predicted]} ({n:,})")
            for (true, predicted), n in most[:CONFUSIONS]
        ]

    @property
    def has_confusions(self) -> bool:
        """Whether any confusion has verdicts."""
        return bool(self.query.form.fields["confusions"].choices)  # type: ignore[attr-defined]

    def more(self) -> list[forms.BoundField]:
        """Return the filter's fields that few people need."""
        return [field for field in self.query.form if field.name not in SHOWN]

    @property
    def has_more(self) -> bool:
        """Whether any of them is filled, or wrong."""
        return any(field.data or field.errors for field in self.more())

    def is_valid(self) -> bool:
        """Return whether the name and every field of the other parts can be used."""
        return all([super().is_valid(), self.query.is_valid(), self._has_recipe()])

    def can_preview(self) -> bool:
        """Return whether everything but the name can be used."""
        super().is_valid()
        return (
            self.query.is_valid()
            and self._has_recipe()
            and "include" not in self.errors
        )

    def _has_recipe(self) -> bool:
        return self.recipe.is_valid() or not self.recipe.is_bound

    def preview(self) -> Preview:
        """Count what would be frozen now; call it when `can_preview`."""
        return preview_fix_set(**self._chosen())

    def freeze(self, *, by: User) -> FixSet:
        """Freeze what matches; call it on a valid form.

        Raises:
            Refused: The name is taken, or there is nothing to freeze.
        """
        name = self.cleaned_data["name"]
        return freeze_fix_set(name=name, by=by, filter=self.chosen(), **self._chosen())

    def _chosen(self) -> dict[str, Any]:
        return {
            "dataset": self.dataset,
            "findings": cast("FindingQuerySet", self.query.qs),
            "include": self._include(),
            "settings": self.recipe.settings() if self.recipe.is_bound else None,
        }

    def _include(self) -> list[str]:
        return self.cleaned_data.get("include", []) if self.is_bound else []

    def chosen(self) -> dict[str, Any]:
        """Return the filter's filled fields by names, several values as a list."""
        given = self.query.form.cleaned_data | {"include": self._include()}
        names = dict(self.dataset.labels.values_list("pk", "name"))
        chosen: dict[str, Any] = {}
        for field, value in given.items():
            if isinstance(value, list) and value:
                chosen[field] = [_pair_in_words(one, names) for one in value]
            elif value not in (None, "", []):
                chosen[field] = str(value)
        return chosen


def _pair_in_words(value: str, names: Mapping[int, str]) -> str:
    """Return "cat → dog" for a confusion's ids; other values as they are."""
    true, colon, predicted = value.partition(":")
    if not colon:
        return value
    return f"{names.get(int(true), true)} → {names.get(int(predicted), predicted)}"


def filter_in_words(chosen: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (what the field is called, its value) of a stored filter."""
    said = []
    for name, value in chosen.items():
        values = value if isinstance(value, list) else [value]
        field = _field(name)
        texts = [str(_choices(field).get(one, one)) for one in values]
        said.append((str(field.label) if field else name, ", ".join(texts)))
    return said


def _field(name: str) -> Any:
    """Return a filter or a field of the form by its name; None: there is none now."""
    if name == "include":
        return FixSetForm.base_fields[name]
    return FixableFilter.base_filters.get(name)


def _choices(field: Any) -> dict[str, Any]:
    extra = getattr(field, "extra", None)
    given = (
        extra.get("choices", ()) if extra is not None else getattr(field, "choices", ())
    )
    # Either pairs or an enumeration that has them.
    return dict(getattr(given, "choices", given))
