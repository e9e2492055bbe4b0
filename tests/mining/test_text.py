from __future__ import annotations

import pytest

from mining.text import (
    MAX_KEY_BYTES,
    MAX_LABEL,
    check_key,
    check_label,
    is_storable,
    shown,
    storable,
)


def test_only_what_cannot_be_stored_is_escaped():
    assert storable("süß\n\\ 😀") == "süß\n\\ 😀"
    assert storable("\0 \ud800 \udcff") == r"\x00 \ud800 \udcff"
    assert is_storable("süß 😀")
    assert not is_storable("\0")
    assert not is_storable("\udcff")


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        "\0\ud800",
        "x" * 10**6,
        10**5000,
        [10**5000],
        [1] * 10**6,
        nested(900),
        {"a": "b"},
    ],
    ids=["surrogate", "long", "huge", "list of huge", "long list", "deep", "object"],
)
def test_any_value_is_shown_in_short(value):
    assert is_storable(shown(value))
    assert len(shown(value)) < 300


def test_a_label_of_the_longest_length_is_fine():
    check_label("ü" * MAX_LABEL)
    check_label("great white shark, 🦈")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("", "the label is empty"),
        ("x" * 201, "has 201 characters; shorten it to at most 200"),
        ("a\0", "holds a NUL"),
        ("a\x1b[2J", "control character"),
        ("a\nb", "control character"),
        ("\ud800", "half of a surrogate pair; remove it"),
    ],
)
def test_it_refuses_a_label_that_cannot_be_stored(label, reason):
    with pytest.raises(ValueError, match=reason):
        check_label(label)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("ü" * 1001, "has 2,002 bytes; shorten it to at most 2,000"),
        ("a\0.png", "holds a NUL"),
        ("\ud800.png", "surrogate pair; rename the file"),
    ],
)
def test_it_refuses_a_key_that_cannot_be_stored(key, reason):
    check_key("ü" * (MAX_KEY_BYTES // 2))
    with pytest.raises(ValueError, match=reason):
        check_key(key)
