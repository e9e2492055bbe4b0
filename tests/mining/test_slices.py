from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mining.artefact import write_outcomes
from mining.exceptions import ArtefactError
from mining.slices import Part, read_looks, slice_tables
from mining.statistics import holm, wilson
from tests.mining.outcomes import outcome


def lines(table) -> list[tuple]:
    return [
        (each.part.kind, each.part.value, each.figures.size, each.figures.errors)
        for each in table.slices
    ]


def test_it_reads_what_the_scan_saw_of_the_images(tmp_path):
    path = tmp_path / "scan.parquet"
    outcomes = [
        outcome(1),
        outcome(2, predicted=0, look=None),
        outcome(3, predicted=None, error="cut off"),
    ]
    write_outcomes(path, outcomes, classes=("cat", "dog"))
    found = read_looks(path)
    assert (found.id.tolist(), found.wrong.tolist()) == ([1, 2], [True, False])
    first = {name: column[0] for name, column in found.columns.items()}
    assert first == {
        "brightness": 0.5,
        "contrast": pytest.approx(0.1),
        "sharpness": 3.0,
        "width": 8.0,
        "height": 8.0,
        "aspect": 1.0,
        "size": 99.0,
        "file_type": "PNG",
    }
    assert math.isnan(found.columns["brightness"][1])
    assert found.columns["file_type"][1] is None
    (*_, table) = slice_tables(found.columns, found.wrong)
    assert {each.part.kind for each in table.slices} <= {"range", "value", "missing"}


def test_it_refuses_a_damaged_artefact(tmp_path):
    (tmp_path / "scan.parquet").write_bytes(b"no")
    with pytest.raises(ArtefactError, match=r"scan\.parquet cannot be read"):
        read_looks(tmp_path / "scan.parquet")


def test_a_text_is_parted_into_its_values():
    light = ["night"] * 4 + ["day"] * 6 + ["dawn"] * 3 + [None, "", "dusk", "noon"]
    wrong = np.array([True] * 3 + [False] * 7 + [True] + [False] * 6)
    (table,) = slice_tables({"light": light}, wrong, top=3)
    assert table.attribute == "light"
    assert lines(table) == [
        ("value", "day", 6, 0),
        ("value", "night", 4, 3),
        ("value", "dawn", 3, 1),
        ("other", "", 2, 0),
        ("missing", "", 2, 0),
    ]
    night = table.slices[1].figures
    assert (night.rate, night.covered) == (0.75, 0.75)
    assert night.lift == pytest.approx(0.75 / (4 / 17))
    assert night.interval == wilson(3, 4)


def test_a_number_is_parted_into_quantiles():
    values = np.array([5.0, 1, 2, 3, 4, 6, 7, 8, math.nan, 9, 10])
    wrong = values >= 9
    (table,) = slice_tables({"blur": values}, wrong, bins=5)
    assert [each.part for each in table.slices[:2]] == [
        Part("range", low=1.0, high=2.0),
        Part("range", low=3.0, high=4.0),
    ]
    assert [line[2:] for line in lines(table)] == [(2, 0)] * 4 + [(2, 2), (1, 0)]
    assert table.slices[-1].part.kind == "missing"


def test_equal_numbers_are_never_parted():
    (table,) = slice_tables({"n": [1] * 7 + [2] * 2 + [3]}, np.arange(10) == 9, bins=5)
    assert [(each.part.low, each.part.high) for each in table.slices] == [
        (1, 1),
        (2, 2),
        (3, 3),
    ]


def test_a_column_is_of_numbers_only_if_all_of_it_is():
    wrong = np.array([True, False, False])
    columns = {
        "mixed": [1, "one", 2.5],
        "flags": [True, False, None],
        "counts": [1, None, 3],
        "lists": [[1], [2], [1]],
    }
    tables = {table.attribute: table for table in slice_tables(columns, wrong)}
    kinds = {name: table.slices[0].part.kind for name, table in tables.items()}
    assert kinds == {
        "mixed": "value",
        "flags": "value",
        "counts": "range",
        "lists": "value",
    }
    assert {each.part.value for each in tables["flags"].slices} == {"True", "False", ""}


def test_an_attribute_that_is_always_the_same_says_nothing():
    columns = {"same": ["x"] * 3, "none": [None] * 3, "nan": np.full(3, math.nan)}
    assert slice_tables(columns, np.array([True, False, False])) == []


def test_without_errors_there_is_nothing_to_find():
    assert slice_tables({"light": ["day", "night"]}, np.zeros(2, bool)) == []
    assert slice_tables({"light": []}, np.zeros(0, bool)) == []


VALUE = st.one_of(st.none(), st.integers(0, 9), st.floats(-1, 1), st.sampled_from("ab"))


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 9), VALUE, st.sampled_from("abcd")),
        max_size=60,
    )
)
def test_each_table_shares_out_samples_and_errors(rows):
    wrong, numbers, mixed, texts = ([row[place] for row in rows] for place in range(4))
    columns = {"n": numbers, "mixed": mixed, "text": texts}
    tables = slice_tables(columns, np.array(wrong, bool), bins=3, top=2)
    for table in tables:
        assert sum(line[2] for line in lines(table)) == len(rows)
        assert sum(line[3] for line in lines(table)) == sum(wrong)
        covered = sum(each.figures.covered for each in table.slices)
        assert covered == pytest.approx(1)
        assert min(line[2] for line in lines(table)) >= 1
    p = [each.p for table in tables for each in table.slices]
    adjusted = [each.adjusted for table in tables for each in table.slices]
    assert adjusted == pytest.approx(holm(p))
    assert [table.adjusted for table in tables] == sorted(
        table.adjusted for table in tables
    )


def test_p_values_are_scipys():
    light = ["night"] * 40 + ["day"] * 60
    wrong = np.array([True] * 15 + [False] * 25 + [True] * 5 + [False] * 55)
    (table,) = slice_tables({"light": light}, wrong)
    night = table.slices[1]
    expected = stats.fisher_exact([[15, 25], [5, 55]], alternative="greater").pvalue
    assert night.p == pytest.approx(expected)
    assert night.adjusted == pytest.approx(2 * expected)
    assert table.slices[0].adjusted == table.slices[0].p > 0.99


def test_what_goes_with_errors_is_first():
    random = np.random.default_rng(4)
    blur = random.random(3000)
    wrong = random.random(3000) < np.where(blur > 0.8, 0.4, 0.1)
    columns = {f"noise {n}": random.random(3000) for n in range(8)} | {"blur": blur}
    first, *rest = slice_tables(columns, wrong)
    assert first.attribute == "blur"
    assert first.adjusted < 1e-20
    assert first.slices[-1].figures.lift > 2
    assert min(table.adjusted for table in rest) > 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 1}, "bins must be 2"),
        ({"top": 0}, "top 1 or more"),
        ({"wrong": np.zeros(3, bool)}, "light has 2 values"),
        ({"wrong": np.zeros((2, 1), bool)}, "light has 2 values"),
    ],
    ids=["bins", "top", "length", "shape"],
)
def test_it_refuses_what_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        slice_tables({"light": ["a", "b"]}, **{"wrong": np.ones(2, bool)} | options)
