"""How differences and p values look, on pages and in a terminal the same."""

from __future__ import annotations

from django import template

from reviewapp.templatetags.hardmine import MISSING

register = template.Library()


@register.filter
def points(share: float | None) -> str:
    """Write a difference of shares (-1 to 1) in percentage points, "+6.3".

    >>> points(0.0632), points(-0.0009), points(0.00004)
    ('+6.3', '\N{MINUS SIGN}0.09', '+0.004')
    """
    if share is None:
        return MISSING
    size = abs(100 * share)
    # Two digits at least of what is small: +0.0 of many samples would hide a change.
    digits = next((n for n in (1, 2, 3) if size >= 10.0**-n), 3)
    text = f"{size:.{digits}f}"
    if not float(text):
        return "0"
    return f"{'+' if share > 0 else chr(0x2212)}{text}"


@register.filter
def p_value(p: float | None) -> str:
    """Write a p value with two digits that count, from 1 down to "< 0.000001".

    >>> p_value(0.6072), p_value(0.0000432), p_value(1e-30), p_value(1.0)
    ('0.61', '0.000043', '< 0.000001', '1')
    """
    if p is None:
        return MISSING
    if p < 1e-6:
        return "< 0.000001"
    digits = next(n for n in range(2, 9) if p >= 10.0 ** (1 - n))
    return f"{p:.{digits}f}".rstrip("0").rstrip(".")


@register.filter
def errors(number: float | None) -> str:
    """Write a change in the number of errors with its sign, "+12" or "+0.4".

    >>> errors(12), errors(-3.0), errors(0.375), errors(0)
    ('+12', '\N{MINUS SIGN}3', '+0.38', '0')
    """
    if number is None:
        return MISSING
    digits = 0 if float(number).is_integer() else 1 if abs(number) >= 1 else 2
    text = f"{abs(number):,.{digits}f}"
    if not float(text.replace(",", "")):
        return "0"
    return f"{'+' if number > 0 else chr(0x2212)}{text}"


@register.filter
def whole_percent(share: float | None) -> str:
    """Write a share without digits, "27 %"; below 0 and above 1 there may be some.

    >>> whole_percent(0.274), whole_percent(-0.1), whole_percent(1.3)
    ('27 %', '\N{MINUS SIGN}10 %', '130 %')
    """
    if share is None:
        return MISSING
    return f"{round(100 * share)} %".replace("-", chr(0x2212))
