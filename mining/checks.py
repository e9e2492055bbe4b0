"""Checks of single fields of the value types; each names the field in its message."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, cast

from mining.text import shown, storable

_MAX_CHANNELS: Final = 3


def one_of(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return `value` when it is one of `allowed`, else raise ValueError naming the field."""
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(allowed)}, not {shown(value)}"
        )
    return cast("str", value)


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return `value` when it is a whole number in [low, high], else raise ValueError."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not low <= value <= high
    ):
        raise ValueError(
            f"{name} must be a whole number from {low} to {high}, not {shown(value)}"
        )
    return value


def number(name: str, value: object) -> float:
    """Return `value` as a finite float, else raise ValueError."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError(f"{name} must be a finite number, not {shown(value)}")


def numbers(name: str, value: object) -> tuple[float, ...]:
    """Return `value`, one number or one per channel, as finite floats, else raise ValueError."""
    items = value if isinstance(value, list | tuple) else (value,)
    if len(items) > _MAX_CHANNELS:
        raise ValueError(
            f"{name} must have at most {_MAX_CHANNELS} numbers, not {len(items):,}"
        )
    return tuple(number(name, item) for item in items)


def reject_unknown(name: str, data: object, known: Sequence[str]) -> None:
    """Raise ValueError for a key that the type does not have: a typing error must not pass."""
    if not isinstance(data, Mapping):
        raise ValueError(f"{name} must be an object, not {shown(data)}")  # noqa: TRY004
    unknown = sorted(map(str, data.keys() - set(known)))
    if unknown:
        listed = storable(", ".join(unknown)[:500])
        raise ValueError(f"{name} has unknown fields: {listed}")


def flag(name: str, value: object) -> None:
    """Raise ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {shown(value)}")  # noqa: TRY004
