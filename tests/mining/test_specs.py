from __future__ import annotations

import hashlib
import json

import pytest

from mining.exceptions import BadCheckpoint, ClassMismatch
from mining.specs import check_classes, checkpoint_digest, read_spec, write_spec
from tests.mining.pictures import SPEC


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
    ],
)
def test_a_bad_spec_says_why(tmp_path, text, reason):
    (tmp_path / "m.pt.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadCheckpoint, match=reason):
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
