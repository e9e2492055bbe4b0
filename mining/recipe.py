"""Recipes: what a fix set asks of training, as versioned JSON that any trainer can read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

from mining.checks import number, one_of, reject_unknown, whole
from mining.exceptions import MiningError
from mining.sources.files import read_bytes
from mining.text import is_storable, shown

Hint = Literal["erase", "rotate", "perspective", "crop", "mix", "blur", "light"]
Role = Literal["hard", "corrected", "easy", "drop"]

FORMAT: Final = "hardmine-recipe"
VERSION: Final = 1
MAX_REPEAT: Final = 100
_MAX_COUNT: Final = 10_000_000
_Part = TypeVar("_Part")


def _plain(part: object) -> dict[str, Any]:
    """Return a part as its fields; `asdict` copies each value, for five times as long."""
    return {name: getattr(part, name) for name in part.__slots__}  # type: ignore[attr-defined]


_encoded = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
).encode


@dataclass(frozen=True, slots=True)
class RecipeSettings:
    """How a recipe is made; `mining.recipe_making` has the formulas.

    Attributes:
        beta: Of the class weights, 0-1 without 1: 0 weighs all classes alike, towards 1
            they go by inverse frequency.
        gamma: Of a sample's emphasis, 0 or more; higher keeps it for the hardest.
        max_emphasis: How much more the hardest sample counts than another, 1-100; 1, all
            alike, trained better than 3 where it was measured (`docs/decisions.md`).
        per_class: Hard samples of one class at most.
        per_confusion: Hard samples of one confusion at most.
        easy_per_hard: Easy samples for each hard one, 0-100.
        collect_per_hard: New images to collect for each hard sample of a class, 0-1000.
        examples: Keys that a line of the collection plan shows at most.
        seed: Decides which easy samples are taken.
    """

    beta: float = 0.999
    gamma: float = 2.0
    max_emphasis: float = 1.0
    per_class: int = 1000
    per_confusion: int = 200
    easy_per_hard: float = 1.0
    collect_per_hard: int = 6
    examples: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= number("beta", self.beta) < 1:
            raise ValueError(f"beta must be from 0 to below 1, not {self.beta}")
        _between("gamma", self.gamma, 0, 10)
        _between("max_emphasis", self.max_emphasis, 1, MAX_REPEAT)
        _between("easy_per_hard", self.easy_per_hard, 0, 100)
        whole("per_class", self.per_class, 1, _MAX_COUNT)
        whole("per_confusion", self.per_confusion, 1, _MAX_COUNT)
        whole("collect_per_hard", self.collect_per_hard, 0, 1000)
        whole("examples", self.examples, 1, 1000)
        whole("seed", self.seed, 0, 2**31 - 1)


@dataclass(frozen=True, slots=True)
class Sources:
    """What a recipe was made from, each as a digest or another name; "" is unknown."""

    scan: str = ""
    model: str = ""
    dataset: str = ""
    fix_set: str = ""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            _text(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class RecipeSample:
    """What to do with one sample.

    Its emphasis, how often it counts for one ordinary sample, is `repeat * weight`.

    Attributes:
        key: Key of the sample in its data set.
        digest: SHA-256 of its bytes in hex.
        label: The label to train with.
        old_label: The label it came with.
        role: "hard" (the model fails, the label is right), "corrected" (the label was
            wrong), "easy" (a right one to mix in) or "drop" (do not train with it).
        weight: How often to draw each copy, above 0 up to 100; 1 is ordinary.
        repeat: Copies in one pass, 1-100.
        hints: Augmentations that its causes ask for.
    """

    key: str
    digest: str
    label: str
    old_label: str
    role: Role
    weight: float = 1.0
    repeat: int = 1
    hints: tuple[Hint, ...] = ()

    def __post_init__(self) -> None:
        for name in ("key", "digest", "label", "old_label"):
            _text(name, getattr(self, name))
        one_of("role", self.role, get_args(Role))
        if not 0 < number("weight", self.weight) <= MAX_REPEAT:
            raise ValueError(
                f"weight must be above 0 up to {MAX_REPEAT}, not {self.weight}"
            )
        whole("repeat", self.repeat, 1, MAX_REPEAT)
        for hint in _listed("hints", self.hints):
            one_of("hints", hint, get_args(Hint))


@dataclass(frozen=True, slots=True)
class Collection:
    """One line of the collection plan: "about `count` more of `label`, like these".

    Attributes:
        label: The class to collect.
        predicted: What the model most often takes it for; `label` itself when it errs on
            none of them, and is only unsure.
        count: How many new images, about.
        like: Keys of the hardest samples, hardest first.
    """

    label: str
    predicted: str
    count: int
    like: tuple[str, ...]

    def __post_init__(self) -> None:
        _text("label", self.label)
        _text("predicted", self.predicted)
        whole("count", self.count, 1, 2**31)
        for key in _listed("like", self.like):
            _text("like", key)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe; the same content has the same digest.

    Attributes:
        samples: Sorted by key, each key once.
        class_weights: Class -> weight in the loss, above 0; on average 1.
        ignore: Key -> reason: reviewed as a label error or ambiguous, so that its loss says
            nothing about the model; never to be mined as hard.
        collection: What to collect, most first.
        warnings: What a person should know before training.
        sources: What it was made from.
        settings: How it was made.
    """

    samples: tuple[RecipeSample, ...]
    class_weights: Mapping[str, float] = field(default_factory=dict)
    ignore: Mapping[str, str] = field(default_factory=dict)
    collection: tuple[Collection, ...] = ()
    warnings: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    settings: RecipeSettings = field(default_factory=RecipeSettings)

    def __post_init__(self) -> None:
        keys = [sample.key for sample in self.samples]
        if keys != sorted(set(keys)):
            raise ValueError("samples must be sorted by key, each key once")
        for name, weight in _mapped("class_weights", self.class_weights).items():
            if number(f"class_weights of {shown(name)}", weight) <= 0:
                raise ValueError(f"class_weights of {shown(name)} must be above 0")
        for reason in _mapped("ignore", self.ignore).values():
            _text("ignore", reason)
        for warning in _listed("warnings", self.warnings):
            _text("warnings", warning)

    @property
    def digest(self) -> str:
        """Return the SHA-256 in hex of its content, however the JSON is spaced."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return it as JSON with one spelling only; `recipe_schema` describes it."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            **{item.name: getattr(self, item.name) for item in fields(self)},
        }
        return _encoded(data)

    @classmethod
    def from_dict(cls, data: object) -> Recipe:
        """Build from what `json.loads` returns for `to_json`.

        Raises:
            ValueError: Something is missing, unknown or out of range; the message names it.
        """
        names = [item.name for item in fields(cls)]
        body = _exactly("recipe", data, ["format", "version", *names])
        if body["format"] != FORMAT or body["version"] != VERSION:
            raise ValueError(
                f"it is {shown(body['format'])}, version {shown(body['version'])}; only"
                f" {FORMAT}, version {VERSION}, can be read"
            )
        return cls(
            samples=_parts(RecipeSample, "samples", body["samples"]),
            class_weights=_mapped("class_weights", body["class_weights"]),
            ignore=_mapped("ignore", body["ignore"]),
            collection=_parts(Collection, "collection", body["collection"]),
            warnings=tuple(_listed("warnings", body["warnings"])),
            sources=_part(Sources, "sources", body["sources"]),
            settings=_part(RecipeSettings, "settings", body["settings"]),
        )


def read_recipe(url: str) -> Recipe:
    """Read a recipe from a file or URL.

    Raises:
        MiningError: It is missing or wrong; the message names the file and the field.
    """
    try:
        return Recipe.from_dict(json.loads(read_bytes(url, max_bytes=None)))
    except OSError as error:
        raise MiningError(
            f"{url} cannot be read: {error.strerror or error}. Give the recipe's file."
        ) from error
    except (ValueError, RecursionError) as error:
        raise MiningError(
            f"{url} is not a recipe that this version reads: {error}. Nothing was taken"
            " from it. Export the recipe of the fix set again."
        ) from error


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of recipes."""
    text = Path(__file__).with_name("recipe.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _between(name: str, value: object, low: float, high: float) -> None:
    if not low <= number(name, value) <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {value}")


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not is_storable(value):
        raise ValueError(f"{name} must be plain text, not {shown(value)}")


def _listed(name: str, value: object) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list, not {shown(value)}")  # noqa: TRY004
    return value


def _mapped(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object, not {shown(value)}")  # noqa: TRY004
    for key in value:
        _text(name, key)
    return dict(value)


def _exactly(name: str, data: object, names: list[str]) -> dict[str, Any]:
    body = _mapped(name, data)
    reject_unknown(name, body, names)
    missing = [item for item in names if item not in body]
    if missing:
        raise ValueError(f"{name} lacks: {', '.join(missing)}")
    return body


def _part(kind: type[_Part], name: str, data: object) -> _Part:
    """Build one dataclass; lists become tuples."""
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]  # dataclasses only
    body = _exactly(name, data, names)
    try:
        return kind(
            **{
                key: tuple(value) if isinstance(value, list) else value
                for key, value in body.items()
            }
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _parts(kind: type[_Part], name: str, data: object) -> tuple[_Part, ...]:
    items = enumerate(_listed(name, data))
    return tuple(_part(kind, f"{name}[{index}]", item) for index, item in items)
