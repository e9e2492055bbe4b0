from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from mining.sources import key_from_os_path, os_path_from_key, url_for


@given(st.binary(max_size=40))
def test_every_file_name_comes_back(raw):
    path = os.fsdecode(raw)
    key = key_from_os_path(path)
    key.encode("utf-8")
    assert os_path_from_key(key) == path


@given(st.sets(st.binary(max_size=4), max_size=20))
def test_two_names_never_share_a_key(names):
    assert len({key_from_os_path(os.fsdecode(name)) for name in names}) == len(names)


def test_plain_names_stay_readable():
    assert key_from_os_path("zoë/猫 1.png") == "zoë/猫 1.png"


def test_hostile_bytes_are_escaped():
    assert key_from_os_path("a\\b\udcff") == r"a\\b\xff"


def test_a_url_holds_the_real_name():
    assert url_for("/data/", r"a\xff.png") == "/data/a\udcff.png"
