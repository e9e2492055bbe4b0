"""Importing predictions made elsewhere."""

from __future__ import annotations

from typing import Any

from django import forms

from mining.exceptions import MiningError
from mining.predictions import read_class_order
from mining.training.folds import MAX_FOLDS
from mining.types import ScanSettings
from reviewapp.forms.scans import SPLITS
from reviewapp.models import Dataset


class ImportForm(forms.Form):
    """A file of predictions, and what they are predictions of."""

    file = forms.FileField(
        label="Predictions",
        help_text="Parquet, CSV, JSON lines or NPZ: a key and the probabilities of each "
        "sample, or its most probable classes.",
        widget=forms.ClearableFileInput(attrs={"accept": ".parquet,.csv,.jsonl,.npz"}),
    )
    model = forms.CharField(
        label="Model",
        max_length=100,
        help_text="Who made them. A name that exists gets its next version; a new name "
        "makes a model.",
        widget=forms.TextInput(attrs={"list": "model-names", "autocomplete": "off"}),
    )
    split = forms.ChoiceField(label="Split", choices=SPLITS, required=False)
    classes = forms.FileField(
        label="Order of the classes (optional)",
        required=False,
        help_text='A JSON list such as ["cat", "dog"], if the file has no names. '
        "Otherwise the order of the data set counts.",
        widget=forms.ClearableFileInput(attrs={"accept": ".json"}),
    )
    near_miss_below = forms.FloatField(
        label="Near miss below",
        min_value=0,
        max_value=1,
        initial=ScanSettings().near_miss_below,
        help_text="Right, but p(true) below this (0 to 1): shown as a near miss.",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    folds = forms.IntegerField(
        label="Out-of-fold: of how many models",
        required=False,
        min_value=2,
        max_value=MAX_FOLDS,
        help_text="If several models made them by cross-validation, each without the "
        "images it judges. Otherwise a scan of the train split is marked in-sample.",
    )
    allow_partial = forms.BooleanField(
        label="Leave bad rows out",
        required=False,
        help_text="Without this, a single bad row or a sample without a row refuses the "
        "file. With it, samples without a good row count as unreadable.",
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known_names = list(
            dataset.registered_models.values_list("name", flat=True)
        )

    def clean_folds(self) -> int:
        """Return how many models; 0: the predictions are not out-of-fold."""
        return self.cleaned_data["folds"] or 0

    def clean_classes(self) -> list[str]:
        """Return the names in the JSON file; none without one."""
        file = self.cleaned_data["classes"]
        if not file:
            return []
        try:
            return read_class_order(file.name, file)
        except MiningError as error:
            raise forms.ValidationError(str(error)) from error
