"""Starting scans, now and by the clock."""

from __future__ import annotations

from typing import Any, get_args

from django import forms

from mining.types import Precision, ScanSettings
from reviewapp.models import Dataset, ModelVersion, RegisteredModel, Split

DEFAULTS = ScanSettings()
SPLITS = [("", "all samples"), *(choice for choice in Split.choices if choice[0])]


class ScanForm(forms.Form):
    """What to scan, and how."""

    version = forms.ModelChoiceField(
        label="Model version", queryset=ModelVersion.objects.none(), empty_label=None
    )
    split = forms.ChoiceField(label="Split", choices=SPLITS, required=False)
    batch_size = forms.IntegerField(
        label="Batch size",
        min_value=1,
        max_value=4096,
        initial=DEFAULTS.batch_size,
        help_text="Images in one forward pass; halved by itself when memory runs out.",
    )
    near_miss_below = forms.FloatField(
        label="Near miss below",
        min_value=0,
        max_value=1,
        initial=DEFAULTS.near_miss_below,
        help_text="Right, but p(true) below this (0 to 1): shown as a near miss.",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    precision = forms.ChoiceField(
        label="Precision",
        choices=[(name, name) for name in get_args(Precision)],
        initial=DEFAULTS.precision,
        help_text="auto takes bfloat16 where the hardware is fast with it.",
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.versions = ModelVersion.objects.for_dataset(dataset).with_names()
        self.fields["version"].queryset = self.versions.order_by("-id")  # type: ignore[attr-defined]

    def settings(self) -> dict[str, object]:
        """Return the scan settings of a valid form."""
        names = ("batch_size", "near_miss_below", "precision")
        return {name: self.cleaned_data[name] for name in names}


class ScheduleForm(forms.Form):
    """Which model to scan again and again, and when."""

    model = forms.ModelChoiceField(
        label="Model",
        queryset=RegisteredModel.objects.none(),
        empty_label=None,
        help_text="Its latest version at that time is scanned.",
    )
    split = forms.ChoiceField(label="Split", choices=SPLITS, required=False)
    cron = forms.CharField(
        label="When",
        max_length=100,
        initial="0 2 * * *",
        help_text="Minute, hour, day of month, month, day of week. 0 2 * * * is 2 "
        "o'clock every night; 30 6 * * 1 is half past six on Mondays.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "mono"}),
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = dataset.registered_models.order_by("name")
        self.fields["model"].queryset = models  # type: ignore[attr-defined]
