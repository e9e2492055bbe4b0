"""A tiny data set on disk and recipes for it."""

from __future__ import annotations

from PIL import Image

from mining.recipe import Recipe, RecipeSample

GREYS = {
    "cat/0.png": 0, "cat/1.png": 40, "cat/2.png": 80,
    "dog/0.png": 120, "dog/1.png": 160, "dog/2.png": 200,
}  # fmt: skip


def write_images(root) -> str:
    """Write images of one grey each, two classes; return the root."""
    for key, grey in GREYS.items():
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12), (grey,) * 3).save(root / key)
    return str(root)


def sample(key, label=None, role="hard", **given) -> RecipeSample:
    """Return a line of a recipe; the label it came with is its folder."""
    old = key.partition("/")[0]
    return RecipeSample(key, "ab" * 32, label or old, old, role, **given)


def recipe(*samples, **given) -> Recipe:
    """Return a recipe of lines in any order."""
    return Recipe(tuple(sorted(samples, key=lambda line: line.key)), **given)
