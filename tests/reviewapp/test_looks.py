"""Numbers, times and colours, on every page the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from reviewapp.templatetags import hardmine

PAIRS = [
    (text, ground)
    for ground in ("bg", "surface", "raised")
    for text in ("text", "muted", "accent")
] + [
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("accent-strong", "accent-soft"),
    *((state, f"{state}-soft") for state in ("good", "warn", "bad", "info")),
    *(("text", f"{state}-soft") for state in ("good", "warn", "bad", "info")),
    ("accent", "bad-soft"),
    ("accent", "info-soft"),
    ("muted", "bad-soft"),
    ("accent", "accent-soft"),
]


def palettes() -> dict[str, dict[str, str]]:
    css = (settings.BASE_DIR / "static/css/app.css").read_text()
    blocks = re.findall(r"(:root[^{]*)\{([^}]*--bg[^}]*)\}", css)
    names = ["light", "dark by the system", "dark by choice"]
    return {
        name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", body))
        for name, (_, body) in zip(names, blocks, strict=True)
    }


def luminance(colour: str) -> float:
    """Return the relative luminance (WCAG 2.2), 0-1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_measured_as_wcag_does():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_has_aa_contrast_in_light_and_dark(text, ground):
    for name, palette in palettes().items():
        found = contrast(palette[text], palette[ground])
        assert found >= 4.5, f"{name}: {text} on {ground} has {found:.2f}"


@pytest.mark.parametrize("ground", ["bg", "surface"])
def test_controls_have_a_visible_edge(ground):
    for name, palette in palettes().items():
        found = contrast(palette["line-strong"], palette[ground])
        assert found >= 3, f"{name}: {found:.2f}"


def test_both_dark_palettes_are_the_same():
    found = palettes()
    assert found["dark by the system"] == found["dark by choice"]
    assert found["light"].keys() == found["dark by choice"].keys()


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0.265, "26.5 %"),
        (1, "100.0 %"),
        (0.0, "0.0 %"),
        (None, "\N{EN DASH}"),
        (1e-9, "< 0.1 %"),
        (0.00049, "< 0.1 %"),
        (0.0005, "0.1 %"),
        (0.9994, "99.9 %"),
        (0.9996, "> 99.9 %"),
        (1 - 1e-9, "> 99.9 %"),
    ],
)
def test_percent_has_one_decimal_and_rounds_nothing_to_none_or_all(share, written):
    assert hardmine.percent(share) == written


@pytest.mark.parametrize(
    ("number", "written"), [(0, "0"), (1234567, "1,234,567"), (None, "\N{EN DASH}")]
)
def test_counts_are_grouped(number, written):
    assert hardmine.count(number) == written


@pytest.mark.parametrize(
    ("part", "whole", "share"),
    [(1, 4, 0.25), (0, 4, 0.0), (1, 0, None), (None, 4, None)],
)
def test_a_share_needs_a_whole(part, whole, share):
    assert hardmine.share_of(part, whole) == share


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (None, "\N{EN DASH}"),
        (-1, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (timedelta(minutes=61), "1 h 1 min"),
        (timedelta(days=2, hours=3), "2 d 3 h"),
    ],
)
def test_durations_have_two_units(seconds, written):
    assert hardmine.duration(seconds) == written


def test_times_are_local_and_machine_readable():
    moment = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    with timezone.override("Asia/Tokyo"):
        written = hardmine.when(moment)
    assert 'datetime="2026-02-01T08:30:00+09:00"' in written
    assert ">2026-02-01 08:30</time>" in written
    assert hardmine.when(None) == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("share", "width"), [(0.345, "34.5%"), (None, "0.0%"), (1.7, "100.0%")]
)
def test_a_bar_stays_in_its_box(share, width):
    assert f'width="{width}"' in hardmine.bar(share)
