"""Asking what a threshold does, and which one costs least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django import forms
from django.http import QueryDict

from reviewapp.forms.choices import Menu

MOST_COSTS: Final = 50
DEAREST: Final = 1e9  # the sum over all samples must stay a number
EMPTY: Final = ("", "", "")


class RegionForm(forms.Form):
    """A threshold, the band about it, a class, and what errors and looks cost.

    Costs of particular errors come as `true`, `predicted` and `cost`, each as often as
    there are lines; an empty `predicted` stands for any. What is not given is the default.

    Attributes:
        lines: The lines of costs as they were given, for the page.
        of_class: Cost of an error by its true class.
        of_confusion: Cost of an error by (true, predicted) class.
    """

    threshold = forms.FloatField(
        label="Threshold",
        min_value=0,
        max_value=1,
        initial=0.9,
        help_text="Accept from this confidence on.",
        widget=forms.NumberInput(attrs={"step": "0.001"}),
    )
    width = forms.FloatField(
        label="Band, ±",
        min_value=0,
        max_value=1,
        initial=0.05,
        widget=forms.NumberInput(attrs={"step": "0.001"}),
    )
    label = forms.ChoiceField(label="Class", required=False)
    look = forms.FloatField(
        label="A look costs", min_value=0, max_value=DEAREST, initial=1
    )
    error = forms.FloatField(
        label="An error costs", min_value=0, max_value=DEAREST, initial=10
    )

    def __init__(self, data: QueryDict, *, classes: Mapping[int, str]) -> None:
        given = data.copy()
        for name, field in self.base_fields.items():
            if name not in given and field.initial is not None:
                given[name] = str(field.initial)
        super().__init__(given)
        self.classes = classes
        choices = [("", "all classes"), *((str(pk), n) for pk, n in classes.items())]
        self.fields["label"].widget = Menu()
        self.fields["label"].choices = choices  # type: ignore[attr-defined]
        self.lines: list[tuple[str, str, str]] = []
        self.of_class: dict[str, float] = {}
        self.of_confusion: dict[tuple[str, str], float] = {}

    def clean_threshold(self) -> float:
        """Keep three decimals, which the tally answers exactly."""
        return round(float(self.cleaned_data["threshold"]), 3)

    def clean_width(self) -> float:
        """Keep three decimals."""
        return round(float(self.cleaned_data["width"]), 3)

    def clean(self) -> dict[str, Any]:
        """Read the lines of costs."""
        data: dict[str, Any] = super().clean() or {}
        known = set(self.classes.values())
        true, predicted, cost = (
            self.data.getlist(name)  # type: ignore[attr-defined]
            for name in ("true", "predicted", "cost")
        )
        if not len(true) == len(predicted) == len(cost) <= MOST_COSTS:
            self.add_error(
                None,
                f"Give true, predicted and cost equally often, {MOST_COSTS} times at most.",
            )
            return data
        rows = zip(true, predicted, cost, strict=True)
        self.lines = [row for row in rows if any(part.strip() for part in row)]
        for true, predicted, cost in self.lines:
            if wrong := _why_not(true, predicted, cost, known):
                self.add_error(None, wrong)
            elif predicted:
                self.of_confusion[true, predicted] = float(cost)
            else:
                self.of_class[true] = float(cost)
        return data

    @property
    def class_name(self) -> str | None:
        """Return the name of the chosen class, None for all."""
        chosen = self.cleaned_data["label"]
        return self.classes[int(chosen)] if chosen else None

    def empty_lines(self, spare: int = 2) -> Sequence[tuple[str, str, str]]:
        """Return the lines to show: those given, and some to fill in."""
        return [*self.lines, *[EMPTY] * min(spare, MOST_COSTS - len(self.lines))]


def _why_not(true: str, predicted: str, cost: str, known: set[str]) -> str:
    """Return why a line of costs makes no sense, "" when it does."""
    if unknown := {true, predicted or true} - known:
        named = ", ".join(f"“{name[:100]}”" for name in sorted(unknown))
        return f"There is no class {named}. Take one of the list."
    if true == predicted:
        return f"{true} predicted as {predicted} is no error."
    try:
        is_cost = 0 <= float(cost) <= DEAREST
    except ValueError:
        is_cost = False
    if is_cost:
        return ""
    return f"The cost of {true} must be a number, 0 or more, at most {DEAREST:,.0f}."
