"""Out-of-fold scans."""

from __future__ import annotations

from typing import Any

from django import forms

from mining.training.folds import MAX_FOLDS
from reviewapp.forms.training import TrainingForm
from reviewapp.models import Dataset

OTHERS = ("recipe", "scan_split", "with_control", "start", "rest")


class FoldForm(TrainingForm):
    """Which models to train for it, and how. A setting left empty takes its default."""

    folds = forms.IntegerField(
        label="Folds",
        min_value=2,
        max_value=MAX_FOLDS,
        initial=5,
        help_text="Models to train, each without one part of the train split. More "
        "make each of them nearly as good as the version itself, and take longer.",
    )
    MORE = tuple(name for name in TrainingForm.MORE if name not in OTHERS)

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, dataset=dataset, **kwargs)
        for name in OTHERS:
            del self.fields[name]
        self.fields["parent"].help_text = (
            "Its architecture and preprocessing are taken; the weights are new, since "
            "its own may have seen every sample."
        )
        self.order_fields(("parent", "folds", "epochs"))

    def choices(self) -> dict[str, Any]:
        """Return what a valid form says, as `start_folds` takes it."""
        return {
            "parent": self.cleaned_data["parent"],
            "folds": self.cleaned_data["folds"],
            "settings": self.given("epochs"),
        }
