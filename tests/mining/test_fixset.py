from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from mining.exports import write_jsonl
from mining.fixset import fix_set_digest
from tests.mining.exports.rows import ROWS, row, written


def test_the_digest_does_not_depend_on_the_order():
    shuffled = random.Random(1).sample(ROWS, 3)
    assert fix_set_digest(shuffled) == fix_set_digest(ROWS)
    assert fix_set_digest([row(causes=("background", "blur"))]) == fix_set_digest(
        [row()]
    )


def test_the_digest_is_that_of_the_json_lines():
    twice = [row(true_label="owl"), row(true_label="cat"), *ROWS[1:]]
    for rows in (ROWS, twice):
        lines = written(write_jsonl, rows)
        assert fix_set_digest(rows) == hashlib.sha256(lines).hexdigest()


@pytest.mark.parametrize(
    ("name", "value"),
    [("label", "owl"), ("note", "x"), ("p_true", 0.126), ("causes", ())],
)
def test_any_change_changes_the_digest(name, value):
    assert fix_set_digest([replace(row(), **{name: value})]) != fix_set_digest([row()])


def test_rows_cannot_be_told_apart_by_where_fields_end():
    first = [row(original_label="ab", true_label="c")]
    assert fix_set_digest(first) != fix_set_digest(
        [row(original_label="a", true_label="bc")]
    )
