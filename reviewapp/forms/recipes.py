"""The form of a recipe: the numbers of its formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from django import forms

from mining.recipe import MAX_REPEAT, RecipeSettings

DEFAULTS: Final = RecipeSettings()
FIRST: Final = ("per_confusion", "per_class", "easy_per_hard")  # shown without asking


def _number(label: str, low: float, high: float, help_text: str) -> forms.FloatField:
    return forms.FloatField(
        label=label,
        min_value=low,
        max_value=high,
        required=False,
        help_text=help_text,
        widget=forms.NumberInput(attrs={"step": "any"}),
    )


def _whole(label: str, low: int, high: int, help_text: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, min_value=low, max_value=high, required=False, help_text=help_text
    )


class RecipeForm(forms.Form):
    """The settings of a recipe; an empty field is the usual one."""

    per_confusion = _whole(
        "Hard samples of one confusion",
        1,
        10_000_000,
        "At most; the hardest are taken.",
    )
    per_class = _whole("Hard samples of one class", 1, 10_000_000, "At most.")
    easy_per_hard = _number(
        "Easy samples for each hard one", 0, 100, "Right ones, mixed in at random."
    )
    gamma = _number("Gamma of the emphasis", 0, 10, "Higher: for the hardest alone.")
    max_emphasis = _number(
        "Most that one sample counts", 1, MAX_REPEAT, "Times an ordinary one."
    )
    beta = _number("Beta of the class weights", 0, 1, "0: all classes alike; below 1.")
    collect_per_hard = _whole(
        "To collect for each hard one", 0, 1000, "New images of its class."
    )
    examples = _whole("Examples in the collection plan", 1, 1000, "Of a class.")
    seed = _whole("Seed", 0, 2**31 - 1, "Decides which easy samples are taken.")

    def __init__(self, data: Mapping[str, Any] | None = None) -> None:
        usual = {
            field.name: getattr(DEFAULTS, field.name) for field in fields(DEFAULTS)
        }
        super().__init__(data, initial=usual)

    def clean_beta(self) -> float | None:
        """Refuse 1: then the number of samples would say nothing."""
        beta: float | None = self.cleaned_data["beta"]
        if beta == 1:
            raise forms.ValidationError("Beta must be below 1.")
        return beta

    def settings(self) -> RecipeSettings:
        """Return the settings; call it on a valid form."""
        given = {k: v for k, v in self.cleaned_data.items() if v is not None}
        return RecipeSettings(**given)

    def first(self) -> list[forms.BoundField]:
        """Return the fields that most people change."""
        return [self[name] for name in FIRST]

    def others(self) -> list[forms.BoundField]:
        """Return the other fields."""
        return [self[name] for name in self.fields if name not in FIRST]
