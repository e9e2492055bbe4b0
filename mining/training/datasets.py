"""A data set as a recipe wants it trained on."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import torch
from torch.utils.data import Dataset

from mining.recipe import Hint, Recipe, RecipeSample
from mining.sources.keys import key_from_os_path
from mining.training.hints import apply_hints

_SHOWN: Final = 3


class Pairs(Protocol):
    """A torchvision-style data set: (image, class index) by position."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, int]: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a pass.

    Attributes:
        index: Its place in the wrapped data set.
        label: Class index; None is the wrapped data set's own.
        weight: How often to draw it; 1 is ordinary.
        hints: Augmentations to follow.
        ignored: Whether its loss says nothing about the model.
    """

    index: int
    label: int | None
    weight: float
    hints: tuple[Hint, ...]
    ignored: bool


class FixSetDataset(Dataset[tuple[Any, ...]]):
    """Wraps a data set and applies a recipe: labels, drops, repeats and hints.

    Items are (image, class index) as before; a training loop needs no change. Hints are
    followed before `transform`, so that the data set below should give PIL images or
    tensors that are not normalised yet.

    Attributes:
        classes: Class names in the order of their indices.
        entries: What each of the N items is.
        weights: float64 (N,), how often to draw each item; 1 is ordinary.
        ignored: bool (N,), True where the recipe says that a loss tells nothing about the
            model: see `mining.training.losses.hard_example_loss`.
        class_weights: float32 (K,), for a loss; 1 for a class that the recipe lacks.
    """

    def __init__(
        self,
        dataset: Pairs,
        recipe: Recipe,
        *,
        key: Callable[[int], str] | None = None,
        classes: Sequence[str] | None = None,
        transform: Callable[[Any], Any] | None = None,
        rest: bool = True,
        with_position: bool = False,
    ) -> None:
        """Find each sample of the recipe in the data set; no image is read.

        Args:
            dataset: The data set to wrap, for example torchvision's ImageFolder.
            recipe: What to do.
            key: Returns the recipe's key of a position; None takes the path below
                `dataset.root`, as ImageFolder keeps it.
            classes: Class names in the order of their indices; None takes
                `dataset.classes`.
            transform: Called with each image.
            rest: Whether samples that the recipe does not name stay, as they are. Without
                them a pass has the recipe's hard, corrected and easy samples alone.
            with_position: Items are (image, class index, position); `ignored[position]`
                then tells of each.

        Raises:
            ValueError: A sample or class of the recipe is not in the data set, or the data
                set tells no keys or classes and none were given.
        """
        self._dataset = dataset
        self._transform = transform
        self._with_position = with_position
        if classes is None:
            classes = getattr(dataset, "classes", ())
        self.classes: tuple[str, ...] = tuple(classes)
        known = _indices(self.classes, recipe)
        samples = {sample.key: sample for sample in recipe.samples}
        keys = _keys(dataset, key)
        _check_found(samples.keys() - set(keys), len(samples))
        self.entries: list[Entry] = []
        for index, name in enumerate(keys):
            plain = Entry(index, None, 1.0, (), ignored=name in recipe.ignore)
            if (sample := samples.get(name)) is not None:
                self.entries += _copies(plain, sample, known)
            elif rest:
                self.entries.append(plain)
        self.weights = torch.tensor(
            [entry.weight for entry in self.entries], dtype=torch.float64
        )
        self.ignored = torch.tensor(
            [entry.ignored for entry in self.entries], dtype=torch.bool
        )
        self.class_weights = torch.tensor(
            [recipe.class_weights.get(name, 1.0) for name in self.classes]
        )
        self._alike = self._positions_by_label()

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        entry = self.entries[position]
        image, own = self._dataset[entry.index]
        label = own if entry.label is None else entry.label
        if entry.hints:
            other = self.partner(entry)
            mixed = None if other is None else self._dataset[other][0]
            image = apply_hints(image, entry.hints, other=mixed)
        if self._transform is not None:
            image = self._transform(image)
        return (image, label, position) if self._with_position else (image, label)

    def _positions_by_label(self) -> dict[int, list[int]]:
        """Return class -> places of the recipe's samples, to mix images of one class."""
        alike: dict[int, list[int]] = defaultdict(list)
        for entry in self.entries:
            if entry.label is not None and not entry.ignored:
                alike[entry.label].append(entry.index)
        return dict(alike)

    def partner(self, entry: Entry) -> int | None:
        """Return the place of a random image of its class, when one is to be mixed in."""
        if "mix" not in entry.hints or entry.label is None:
            return None
        alike = [i for i in self._alike.get(entry.label, ()) if i != entry.index]
        return alike[int(torch.randint(len(alike), ()))] if alike else None


def _indices(classes: Sequence[str], recipe: Recipe) -> dict[str, int]:
    if not classes:
        raise ValueError("the data set has no classes; give them by classes=")
    known = {name: index for index, name in enumerate(classes)}
    labels = {sample.label for sample in recipe.samples if sample.role != "drop"}
    if missing := sorted(labels - known.keys()):
        raise ValueError(
            "classes of the recipe that the data set lacks:"
            f" {len(missing):,}, such as {', '.join(missing[:_SHOWN])}"
        )
    return known


def _keys(dataset: Pairs, key: Callable[[int], str] | None) -> list[str]:
    if key is not None:
        return [key(index) for index in range(len(dataset))]
    root, samples = getattr(dataset, "root", None), getattr(dataset, "samples", None)
    if root is None or samples is None:
        raise ValueError("the data set keeps no paths; say by key= what each key is")
    paths = (os.path.relpath(path, root) for path, _ in samples)
    return [key_from_os_path(path.replace(os.sep, "/")) for path in paths]


def _check_found(missing: set[str], count: int) -> None:
    """Refuse to leave a sample out silently: the root is likely another one."""
    if missing:
        raise ValueError(
            f"samples of the recipe that are not in the data set: {len(missing):,} of"
            f" {count:,}, such as {', '.join(sorted(missing)[:_SHOWN])}. Give the folder"
            " that was registered, or say by key= what each key is"
        )


def _copies(plain: Entry, sample: RecipeSample, known: dict[str, int]) -> list[Entry]:
    if sample.role == "drop":
        return []
    label = known[sample.label]
    entry = replace(plain, label=label, weight=sample.weight, hints=sample.hints)
    return [entry] * sample.repeat
