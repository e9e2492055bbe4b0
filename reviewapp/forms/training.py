"""Retraining a model version."""

from __future__ import annotations

from typing import Any, ClassVar, Final, get_args

from django import forms

from mining.recipe import Role
from mining.training.settings import Loss, Start, TrainPrecision, TrainSettings
from mining.types import Device
from reviewapp.forms.runs import RunForm, named
from reviewapp.forms.scans import SPLITS
from reviewapp.models import Dataset, ModelVersion, Recipe, Split

DEFAULTS: Final = TrainSettings()
OFFERED: Final = 200  # the last recipes
LOSSES: Final = {
    "cross_entropy": "cross entropy",
    "hard_examples": "the hardest quarter of each batch",
    "focal": "focal loss",
}
STARTS: Final = {
    "version": "the version's weights",
    "scratch": "new weights of the same architecture",
}


class TrainingForm(RunForm):
    """What to retrain with what, and how. A setting left empty takes its default."""

    parent = forms.ModelChoiceField(
        label="Model version",
        queryset=ModelVersion.objects.none(),
        empty_label=None,
        help_text="What the training starts from.",
    )
    recipe = forms.ModelChoiceField(
        label="Recipe of the fix set",
        queryset=Recipe.objects.none(),
        required=False,
        empty_label="none: the train split as it is",
        help_text="What the fix set says of weights, repeats, labels and hints.",
    )
    scan_split = forms.ChoiceField(
        label="Verify on the split",
        choices=SPLITS,
        required=False,
        initial=Split.TEST.value,
        help_text="The new version is scanned over it when it is trained. What it was "
        "trained on proves nothing.",
    )
    with_control = forms.BooleanField(
        label="Train a control too",
        required=False,
        help_text="Another version with as many samples, drawn at random: it shows what "
        "more training alone brings. Takes as long again.",
    )
    epochs = forms.IntegerField(
        label="Epochs",
        required=False,
        min_value=1,
        max_value=1000,
        initial=DEFAULTS.epochs,
        help_text="Passes over the samples at most.",
    )
    patience = forms.IntegerField(
        label="Patience",
        required=False,
        min_value=0,
        max_value=1000,
        initial=DEFAULTS.patience,
        help_text="Epochs without a better loss on the val split before it stops, "
        "and the best is kept; 0 goes to the end and keeps the last.",
    )
    lr = forms.FloatField(
        label="Learning rate",
        required=False,
        min_value=0,
        max_value=10,
        initial=DEFAULTS.lr,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text="The highest one; it rises at first and falls to nearly nothing.",
    )
    weight_decay = forms.FloatField(
        label="Weight decay",
        required=False,
        min_value=0,
        max_value=10,
        initial=DEFAULTS.weight_decay,
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    batch_size = forms.IntegerField(
        label="Batch size",
        required=False,
        min_value=1,
        max_value=4096,
        initial=DEFAULTS.batch_size,
        help_text="Samples in one step. When memory runs out it goes through in parts, "
        "with the same result.",
    )
    loss = forms.ChoiceField(
        label="Loss",
        required=False,
        choices=named(get_args(Loss), LOSSES),
        help_text="Classes are weighed as the recipe says in each of them.",
    )
    start = forms.ChoiceField(
        label="Start from",
        required=False,
        choices=named(get_args(Start), STARTS),
    )
    rest = forms.ChoiceField(
        label="Train on",
        required=False,
        choices=[
            ("yes", "the train split and the recipe's samples"),
            ("no", "the recipe's samples alone"),
        ],
    )
    seed = forms.IntegerField(
        label="Seed",
        required=False,
        min_value=0,
        max_value=2**31 - 1,
        initial=DEFAULTS.seed,
        help_text="Decides order and augmentation. The same seed gives the same weights.",
    )
    device = forms.ChoiceField(
        label="Device",
        required=False,
        choices=named(get_args(Device)),
        help_text="auto takes a GPU when the worker has one. cuda refuses to run without.",
    )
    precision = forms.ChoiceField(
        label="Precision",
        required=False,
        choices=named(get_args(TrainPrecision)),
    )
    workers = forms.IntegerField(
        label="Threads",
        required=False,
        min_value=0,
        max_value=256,
        initial=DEFAULTS.workers,
        help_text="Threads that read and decode images; 0: one for each CPU.",
    )
    MORE: ClassVar[tuple[str, ...]] = (
        "patience",
        "lr",
        "weight_decay",
        "batch_size",
        "loss",
        "start",
        "rest",
        "seed",
        "device",
        "precision",
        "workers",
    )

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        versions = ModelVersion.objects.for_dataset(dataset).with_names()
        self.versions = versions.trainable()
        self.fields["parent"].queryset = self.versions.order_by("-id")  # type: ignore[attr-defined]
        recipes = Recipe.objects.for_dataset(dataset).done()
        field = self.fields["recipe"]
        field.queryset = recipes.lean()  # type: ignore[attr-defined]
        offered = recipes.lean().newest_first()[:OFFERED]
        empty = ("", "none: the train split as it is")
        field.widget.choices = [empty, *((one.pk, in_words(one)) for one in offered)]

    def choices(self) -> dict[str, Any]:
        """Return what a valid form says, as `start_training` takes it."""
        asked = ("parent", "recipe", "scan_split", "with_control")
        settings = self.given("epochs")
        settings["rest"] = settings.get("rest") != "no"
        return {name: self.cleaned_data[name] for name in asked} | {
            "settings": settings
        }


def usual_parent(dataset: Dataset, recipe: Recipe | None = None) -> int | None:
    """Return the newest version that can be trained, of the model that a recipe is of.

    Controls are none: nobody goes on from what was drawn at random.
    """
    versions = ModelVersion.objects.for_dataset(dataset).trainable().without_controls()
    newest = versions.order_by("-id").values_list("pk", flat=True)
    digest = recipe.summary.get("sources", {}).get("model") if recipe else None
    of_model = newest.filter(registered_model__versions__digest=digest)
    return (of_model.first() if digest else None) or newest.first()


def in_words(recipe: Recipe) -> str:
    """Return a recipe as a menu names it."""
    samples = recipe.summary.get("samples", {})
    counted = ", ".join(
        f"{samples[role]:,} {role}" for role in get_args(Role) if samples.get(role)
    )
    made = f"{recipe.created_at:%Y-%m-%d %H:%M}"
    stale = ", stale" if recipe.fix_set.stale_because else ""
    return f"{recipe.fix_set}{stale}: {counted or 'no samples'} ({made}, recipe {recipe.pk})"
