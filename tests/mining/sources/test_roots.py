from __future__ import annotations

import pytest

from mining.exceptions import OutsideRoot
from mining.sources import resolve_under_roots


def test_a_root_and_what_is_under_it_are_allowed(tmp_path):
    root = str(tmp_path)
    assert resolve_under_roots(root, [root]) == root
    assert resolve_under_roots(f"{root}/a/./b/", [root]) == f"{root}/a/b"


def test_the_root_of_everything_allows_everything():
    assert resolve_under_roots("/usr", ["/"]) == "/usr"


@pytest.mark.parametrize(
    "path",
    ["{tmp}/data/../secret", "{tmp}/database", "/etc/passwd", "", "{tmp}/data/\0"],
)
def test_it_refuses_local_paths_outside(tmp_path, path):
    (tmp_path / "data").mkdir()
    with pytest.raises(OutsideRoot):
        resolve_under_roots(path.format(tmp=tmp_path), [f"{tmp_path}/data"])


def test_it_follows_links_before_it_decides(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "out").symlink_to("/etc")
    with pytest.raises(OutsideRoot):
        resolve_under_roots(f"{tmp_path}/data/out", [f"{tmp_path}/data"])


def test_a_linked_root_allows_its_real_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    found = resolve_under_roots(f"{tmp_path}/link/a", [f"{tmp_path}/link"])
    assert found == f"{tmp_path}/real/a"


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/datasets",
        "s3://bucket/data/../secret",
        "s3://bucket/data/%2e%2e/secret",
        "s3://other/data",
        "gs://bucket/data",
        "zip::s3://bucket/data",
        "simplecache::file:///etc/passwd",
        "local:///etc",
        "bucket/data",
    ],
)
def test_it_refuses_urls_outside(path):
    with pytest.raises(OutsideRoot):
        resolve_under_roots(path, ["s3://bucket/data"])


def test_urls_under_a_root_are_normalised():
    found = resolve_under_roots("S3://bucket/data//a/./b/", ["s3://bucket/data/"])
    assert found == "s3://bucket/data/a/b"


def test_the_message_names_the_roots_and_the_setting():
    with pytest.raises(OutsideRoot, match=r"DATA_ROOTS allows: /srv/a, /srv/b\."):
        resolve_under_roots("/etc", ["/srv/a", "/srv/b"], setting="DATA_ROOTS")


def test_no_roots_allow_nothing():
    with pytest.raises(OutsideRoot, match="allows: none"):
        resolve_under_roots("/etc", [])
