from __future__ import annotations

import hashlib
import json

import pytest

from mining.exceptions import BadCheckpoint, ClassMismatch
from mining.specs import check_classes, checkpoint_digest, read_spec, write_spec
from tests.mining.pictures import SPEC


def with_changes(**changes: object) -> str:
    return json.dumps(SPEC.to_dict() | changes)


def with_mean(mean: list[object]) -> str:
    preprocessing = SPEC.preprocessing.to_dict() | {"mean": mean}
    return with_changes(preprocessing=preprocessing)


@pytest.mark.parametrize("root", ["{tmp}", "memory://specs"])
def test_a_spec_is_read_as_it_was_written(tmp_path, root):
    url = f"{root.format(tmp=tmp_path)}/m.safetensors"
    write_spec(url, SPEC)
    assert read_spec(url) == SPEC


def test_a_missing_spec_is_named(tmp_path):
    with pytest.raises(BadCheckpoint, match=r"cannot see .*m\.pt\.json: No such file"):
        read_spec(str(tmp_path / "m.pt"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not a valid model spec"),
        ("[]", "not a JSON object"),
        ('{"format": "x"}', "lacks: classes"),
        (json.dumps(SPEC.to_dict() | {"classes": ["a"]}), "at least two"),
        ("\xff", "is not a valid model spec"),
        ("[" * 100_000, "nested too deep"),
        (with_changes(classes=["a", "\ud800"]), "surrogate"),
        (with_changes(classes=["a", "b\0"]), "NUL"),
        (with_changes(classes=["a", "b" * 201]), "201 characters"),
        (with_changes(classes=[str(n) for n in range(100_001)]), "100,001 names"),
        (with_changes(architecture="a" * 101), "architecture"),
        (with_changes(architecture="\0"), "architecture"),
        (with_mean([10**400]), "mean must be a finite number"),
        (with_mean(["-"]).replace('"-"', "7" * 5000), "is not a valid model spec"),
        (with_mean([float("nan")]), "mean must be a finite number"),
    ],
)
def test_a_bad_spec_says_why(tmp_path, text, reason):
    (tmp_path / "m.pt.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadCheckpoint, match=reason) as caught:
        read_spec(str(tmp_path / "m.pt"))
    assert str(caught.value).startswith(
        f"{tmp_path}/m.pt.json is not a valid model spec"
    )
    str(caught.value).encode()


def test_a_spec_as_large_as_a_model_is_not_read(tmp_path):
    with (tmp_path / "m.pt.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(BadCheckpoint, match=r"m\.pt\.json .* 67,108,864 bytes"):
        read_spec(str(tmp_path / "m.pt"))


def test_classes_must_be_the_same_in_the_same_order():
    check_classes(("a", "b"), ["a", "b"])
    with pytest.raises(ClassMismatch, match="reordered"):
        check_classes(("a", "b"), ["b", "a"])


def test_the_digest_is_that_of_the_file(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"weights")
    expected = hashlib.sha256(b"weights").hexdigest()
    assert checkpoint_digest(str(tmp_path / "m.pt")) == expected


def test_a_missing_checkpoint_has_no_digest(tmp_path):
    with pytest.raises(BadCheckpoint, match="The worker cannot see"):
        checkpoint_digest(str(tmp_path / "m.pt"))
