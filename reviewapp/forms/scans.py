"""Starting scans, now and by the clock."""

from __future__ import annotations

from typing import Any, get_args

from django import forms

from mining.types import Decode, Device, Precision, ScanSettings
from reviewapp.forms.runs import RunForm, named
from reviewapp.models import Dataset, ModelVersion, RegisteredModel, Split

DEFAULTS = ScanSettings()
SPLITS = [("", "all samples"), *(choice for choice in Split.choices if choice[0])]


class ScanForm(RunForm):
    """What to scan, and how. A setting that is left empty takes its default."""

    version = forms.ModelChoiceField(
        label="Model version", queryset=ModelVersion.objects.none(), empty_label=None
    )
    split = forms.ChoiceField(label="Split", choices=SPLITS, required=False)
    near_miss_below = forms.FloatField(
        label="Near miss below",
        required=False,
        min_value=0,
        max_value=1,
        initial=DEFAULTS.near_miss_below,
        help_text="Right, but p(true) below this (0 to 1): shown as a near miss. Higher "
        "finds more wrong labels and makes more work.",
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    precision = forms.ChoiceField(
        label="Precision",
        required=False,
        choices=named(get_args(Precision)),
        initial=DEFAULTS.precision,
        help_text="auto takes the fast format of the hardware and computes close calls "
        "again in float32. float32 is exact throughout, and about half as fast.",
    )
    device = forms.ChoiceField(
        label="Device",
        required=False,
        choices=named(get_args(Device)),
        initial=DEFAULTS.device,
        help_text="auto takes a GPU when the worker has one. cuda refuses to run without.",
    )
    batch_size = forms.IntegerField(
        label="Batch size",
        required=False,
        min_value=1,
        max_value=4096,
        help_text="Images in one forward pass. Empty: found by itself. Halved by itself "
        "when memory runs out.",
    )
    workers = forms.IntegerField(
        label="Threads",
        required=False,
        min_value=1,
        max_value=256,
        help_text="Threads that decode; on a CPU they also run the model. Empty: one for "
        "each CPU. Fewer leave room for other work on that machine.",
    )
    decode = forms.ChoiceField(
        label="Decode on",
        required=False,
        choices=named(get_args(Decode)),
        initial=DEFAULTS.decode,
        help_text="Where JPEGs are decoded. auto measures both on a GPU and keeps the "
        "faster.",
    )
    shard_size = forms.IntegerField(
        label="Images in a part",
        required=False,
        min_value=1,
        max_value=1_000_000,
        initial=DEFAULTS.shard_size,
        help_text="What a worker claims, and repeats when it dies. Larger for fast GPUs, "
        "smaller when many workers share a small data set.",
    )
    compile = forms.BooleanField(
        label="Compile the model",
        required=False,
        help_text="torch.compile: the first batch takes a minute or more, the rest may be "
        "faster. Worth trying for long scans on a GPU.",
    )
    MORE = (
        "near_miss_below",
        "precision",
        "device",
        "batch_size",
        "workers",
        "decode",
        "shard_size",
        "compile",
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        versions = ModelVersion.objects.for_dataset(dataset).with_names()
        self.versions = versions.exclude(format=ModelVersion.Format.PREDICTIONS)
        self.fields["version"].queryset = self.versions.order_by("-id")  # type: ignore[attr-defined]

    def settings(self) -> dict[str, object]:
        """Return the scan settings of a valid form, without those left empty."""
        return self.given()


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
