"""Curves of a training as points of an SVG, drawn by the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 600.0
HEIGHT: Final = 200.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve: its name, its points as SVG has them, and its last value."""

    name: str
    points: str
    last: float
    last_x: float
    last_y: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over the epochs on one scale, the lowest value at the bottom."""

    curves: tuple[Curve, ...]
    low: float
    high: float
    first: int
    last: int

    @property
    def spoken(self) -> str:
        """Return what a screen reader says instead of the picture."""
        ends = "; ".join(f"{curve.name} {curve.last:.4g}" for curve in self.curves)
        return f"Loss over epochs {self.first} to {self.last}, at last: {ends}"


NAMES: Final = {"train_loss": "train loss", "val_loss": "val loss"}


def loss_chart(epochs: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Return the losses of a training's epochs; None before the first.

    Args:
        epochs: As `EpochFigures.to_dict` has them, in order.
    """
    values = {
        name: [(e["epoch"], float(e[name])) for e in epochs if e[name] is not None]
        for name in NAMES
    }
    given = [value for points in values.values() for _, value in points]
    if not given:
        return None
    low, high = min(given), max(given)
    first, last = epochs[0]["epoch"], epochs[-1]["epoch"]

    def place(epoch: int, value: float) -> tuple[float, float]:
        x = WIDTH * (epoch - first) / (last - first) if last > first else WIDTH / 2
        y = HEIGHT * (high - value) / (high - low) if high > low else HEIGHT / 2
        return round(x, 1), round(y, 1)

    curves = []
    for name, points in values.items():
        if points:
            placed = [place(*point) for point in points]
            text = " ".join(f"{x},{y}" for x, y in placed)
            curves.append(Curve(NAMES[name], text, points[-1][1], *placed[-1]))
    return Chart(tuple(curves), low, high, first, last)
