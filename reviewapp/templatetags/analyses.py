"""How slices and thresholds are said."""

from __future__ import annotations

from typing import Any

from django import template

from reviewapp.templatetags.hardmine import MISSING

register = template.Library()


@register.filter
def number(value: float | None) -> str:
    """Write a measured number with four digits that count, "1,234" or "0.0123".

    >>> number(1234567.0), number(0.01234567), number(5.0)
    ('1,234,567', '0.01235', '5')
    """
    if value is None:
        return MISSING
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


@register.filter
def cutoff(value: float | None) -> str:
    """Write a threshold as exactly as it must be to accept the same samples.

    >>> cutoff(0.85), cutoff(0.123456789)
    ('0.85', '0.123456789')
    """
    return MISSING if value is None else f"{value:.9g}"


@register.filter
def part_words(part: dict[str, Any]) -> str:
    """Say what the samples of a slice have in common.

    >>> part_words({"kind": "range", "from": 1.0, "to": 2.5})
    '1 to 2.5'
    """
    if part["kind"] == "range":
        low, high = number(part["from"]), number(part["to"])
        return low if low == high else f"{low} to {high}"
    if part["kind"] == "value":
        return str(part["value"])
    return "other values" if part["kind"] == "other" else "no value"


@register.filter
def condition_words(condition: dict[str, Any]) -> str:
    """Say what a step of the tree asks.

    >>> condition_words({"attribute": "light", "sign": "is", "value": None})
    'light has no value'
    """
    name, sign, value = condition["attribute"], condition["sign"], condition["value"]
    if value is None:
        return f"{name} has {'no' if sign == 'is' else 'a'} value"
    if sign in ("is", "is not"):
        return f"{name} {sign} {value}"
    words = "at most" if sign == "<=" else "above"
    return f"{name} {words} {number(value)}"
