"""How small gains look."""

from __future__ import annotations

import math

from django import template

register = template.Library()


@register.filter
def gain(share: float) -> str:
    """Write a gain (0-1) in percentage points, with two digits that count.

    >>> gain(0.0094), gain(0.00000075), gain(0.123), gain(0)
    ('+0.94', '+0.000075', '+12', '0')
    """
    size = 100 * share
    if size < 1e-9:  # rounding
        return "0"
    return f"+{size:.{max(0, 1 - math.floor(math.log10(size)))}f}"
