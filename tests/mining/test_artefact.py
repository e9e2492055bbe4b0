from __future__ import annotations

import errno
import math
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mining import artefact
from mining.artefact import (
    OUTCOME_SCHEMA,
    iter_columns,
    iter_outcomes,
    merge_outcomes,
    read_classes,
    read_outcomes,
    write_outcomes,
)
from mining.exceptions import ArtefactError, ScanCountMismatch
from mining.types import Look, Outcome, SampleRef

LOOK = Look(-(2**63) + 5, 0.5, 0.25, 12.5, 80, 60, "JPEG", 4321)


def outcomes(start: int, stop: int) -> list[Outcome]:
    return [
        Outcome(
            id=n, key=f"{n}.png", digest=f"{n:064x}", true=n % 3, predicted=n % 2,
            confidence=0.75, p_true=0.25, margin=0.5, loss=1.5, top_classes=(1, 0),
            top_probs=(0.75, 0.25),
        )
        for n in range(start, stop)
    ]  # fmt: skip


def older(path: Path, names: Sequence[str]) -> Path:
    """Leave only these columns in an artefact."""
    table = pq.read_table(path)
    pq.write_table(table.select(names), path)
    return path


def same(found: Outcome, expected: Outcome) -> bool:
    if expected.is_unreadable:
        blank = {"confidence": 0.0, "p_true": 0.0, "margin": 0.0, "loss": 0.0}
        assert math.isnan(found.p_true)
        return replace(found, **blank) == replace(expected, **blank)
    return found == expected


def test_outcomes_come_back_as_they_were(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [
        *outcomes(0, 5),
        Outcome.unreadable(SampleRef(9, "x", "x", 2, "d"), "empty"),
        replace(outcomes(6, 7)[0], look=LOOK),
        replace(outcomes(7, 8)[0], look=replace(LOOK, phash=None)),
    ]
    assert write_outcomes(path, iter(rows), classes=("é", "b")) == 8
    assert all(same(*pair) for pair in zip(iter_outcomes(path), rows, strict=True))
    assert read_classes(path) == ("é", "b")
    assert read_outcomes(path).schema.equals(OUTCOME_SCHEMA)
    assert read_outcomes(path, ["predicted"]).to_pydict() == {
        "predicted": [0, 1, 0, 1, 0, None, 0, 1]
    }
    assert read_outcomes(path, ["phash", "id"]).to_pydict() == {
        "phash": [None] * 6 + [-(2**63) + 5, None],
        "id": [0, 1, 2, 3, 4, 9, 6, 7],
    }


def test_an_older_artefact_has_no_looks(tmp_path):
    path = tmp_path / "a"
    write_outcomes(path, outcomes(0, 5), classes=("a", "b"))
    older(path, OUTCOME_SCHEMA.names[:12])
    assert list(iter_outcomes(path)) == outcomes(0, 5)
    assert read_outcomes(path, ["phash"]).to_pydict() == {"phash": [None] * 5}
    assert read_outcomes(path).schema.equals(OUTCOME_SCHEMA)
    (table,) = iter_columns(path, ["width", "id"])
    assert table.to_pydict() == {"width": [None] * 5, "id": [0, 1, 2, 3, 4]}
    (table,) = iter_columns(path, ["width"])
    assert table.to_pydict() == {"width": [None] * 5}


def test_an_older_part_is_merged_with_one_that_has_looks(tmp_path):
    rows = [replace(row, look=LOOK) for row in outcomes(5, 9)]
    write_outcomes(tmp_path / "1", outcomes(0, 5))
    write_outcomes(tmp_path / "2", rows)
    older(tmp_path / "1", OUTCOME_SCHEMA.names[:12])
    merge_outcomes([tmp_path / "1", tmp_path / "2"], tmp_path / "all", 9)
    assert list(iter_outcomes(tmp_path / "all")) == [*outcomes(0, 5), *rows]


def test_a_file_object_gets_the_same_bytes(tmp_path):
    buffer = BytesIO()
    write_outcomes(buffer, outcomes(0, 5), classes=("a", "b"))
    write_outcomes(tmp_path / "a", outcomes(0, 5), classes=("a", "b"))
    assert buffer.getvalue() == (tmp_path / "a").read_bytes()


def test_no_outcomes_are_an_artefact_too(tmp_path):
    assert write_outcomes(tmp_path / "a", []) == 0
    assert list(iter_outcomes(tmp_path / "a")) == []


@given(cuts=st.lists(st.integers(0, 60), max_size=5))
def test_merged_shards_are_the_bytes_of_the_whole(cuts):
    edges = [0, *sorted(cuts), 60]
    shards = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artefact, "_ROW_GROUP", 16)
        for start, stop in pairwise(edges):
            shards.append(BytesIO())
            write_outcomes(shards[-1], outcomes(start, stop), classes=("a", "b"))
        merged, whole = BytesIO(), BytesIO()
        assert merge_outcomes(shards, merged, 60) == 60
        write_outcomes(whole, outcomes(0, 60), classes=("a", "b"))
    assert merged.getvalue() == whole.getvalue()
    assert [outcome.id for outcome in iter_outcomes(merged)] == list(range(60))


@pytest.mark.parametrize("expected", [9, 11])
def test_a_merge_of_another_count_writes_nothing(tmp_path, expected):
    write_outcomes(tmp_path / "1", outcomes(0, 10))
    with pytest.raises(ScanCountMismatch, match=f"10 outcomes for {expected} samples"):
        merge_outcomes([tmp_path / "1"], tmp_path / "all", expected)
    assert not (tmp_path / "all").exists()


def test_shards_of_other_classes_are_not_merged(tmp_path):
    write_outcomes(tmp_path / "1", outcomes(0, 2), classes=("a", "b"))
    write_outcomes(tmp_path / "2", outcomes(2, 4), classes=("b", "a"))
    with pytest.raises(ArtefactError, match="different classes"):
        merge_outcomes([tmp_path / "1", tmp_path / "2"], tmp_path / "all", 4)


class FullDisk(BytesIO):
    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_so():
    with pytest.raises(ArtefactError, match="the disk is full") as caught:
        write_outcomes(FullDisk(), outcomes(0, 5))
    assert "kept" in str(caught.value)


def test_a_write_that_fails_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.parquet"
    write_outcomes(path, outcomes(0, 3))

    def failing():
        yield from outcomes(0, 2)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ArtefactError, match=r"a\.parquet could not be written"):
        write_outcomes(path, failing())
    assert [item.name for item in tmp_path.iterdir()] == ["a.parquet"]
    assert len(list(iter_outcomes(path))) == 3


def test_a_missing_folder_is_said_so(tmp_path):
    with pytest.raises(ArtefactError, match="No such file"):
        write_outcomes(tmp_path / "none" / "a", [])


@pytest.mark.parametrize("data", [None, b"", b"PAR1nonsensePAR1"])
def test_a_damaged_artefact_is_named(tmp_path, data):
    path = tmp_path / "a.parquet"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"a\.parquet cannot be read"):
        read_outcomes(path)


def test_a_column_that_is_not_there_is_named(tmp_path):
    write_outcomes(tmp_path / "a", [])
    with pytest.raises(ArtefactError, match="no column embedding"):
        read_outcomes(tmp_path / "a", ["id", "embedding"])
