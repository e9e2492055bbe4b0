from __future__ import annotations

import os

import fsspec
import pytest

from mining.exceptions import EmptySource, MiningError, OutsideRoot
from mining.sources import FolderSource, open_source, read_bytes
from mining.sources.folder import _Item
from tests.mining.pictures import write


def listed(root, manifest=None):
    return [
        (entry.key, entry.label, entry.split)
        for entry in open_source(str(root), manifest).entries()
    ]


def test_class_folders_give_labels_in_the_order_of_names(tmp_path):
    for name in ("dog/2.png", "cat/b.JPG", "cat/a.webp", "cat/deep/er/c.tiff"):
        write(tmp_path / name)
    assert listed(tmp_path) == [
        ("cat/a.webp", "cat", ""),
        ("cat/b.JPG", "cat", ""),
        ("cat/deep/er/c.tiff", "cat", ""),
        ("dog/2.png", "dog", ""),
    ]
    assert open_source(str(tmp_path)).kind == "folder"


def test_split_folders_give_splits(tmp_path):
    for name in ("train/cat/1.png", "Validation/cat/2.png", "test/dog/3.png"):
        write(tmp_path / name)
    assert sorted(listed(tmp_path)) == [
        ("Validation/cat/2.png", "cat", "val"),
        ("test/dog/3.png", "dog", "test"),
        ("train/cat/1.png", "cat", "train"),
    ]


def test_a_class_may_be_called_test_among_others(tmp_path):
    write(tmp_path / "test/1.png")
    write(tmp_path / "cat/1.png")
    assert listed(tmp_path) == [("cat/1.png", "cat", ""), ("test/1.png", "test", "")]


def test_what_is_no_image_is_left_out(tmp_path):
    write(tmp_path / "cat/1.png")
    for name in ("cat/.hidden.png", ".git/x.png", "cat/readme.txt", "labels.csv"):
        write(tmp_path / name, b"x")
    assert listed(tmp_path) == [("cat/1.png", "cat", "")]


def test_a_hidden_link_is_nobodys_business(tmp_path):
    write(tmp_path / "cat/1.png")
    (tmp_path / "cat/.2.png").symlink_to("/etc/hostname")
    assert listed(tmp_path) == [("cat/1.png", "cat", "")]


def test_a_broken_image_is_listed_all_the_same(tmp_path):
    write(tmp_path / "cat/1.png", b"")
    (tmp_path / "cat/2.png").symlink_to("missing.png")
    assert [key for key, _, _ in listed(tmp_path)] == ["cat/1.png", "cat/2.png"]


@pytest.mark.parametrize("root", ["{tmp}", "memory://hollow"])
def test_an_empty_root_is_refused(tmp_path, root):
    (tmp_path / "cat").mkdir()
    fsspec.filesystem("memory").makedirs("/hollow/cat", exist_ok=True)
    with pytest.raises(EmptySource, match="holds no images"):
        open_source(root.format(tmp=tmp_path))


@pytest.mark.parametrize("root", ["{tmp}/none", "memory://none"])
def test_a_missing_root_is_refused_by_name(tmp_path, root):
    root = root.format(tmp=tmp_path)
    with pytest.raises(MiningError, match="cannot be listed"):
        open_source(root)


def test_an_image_without_a_class_is_refused_by_name(tmp_path):
    write(tmp_path / "cat/1.png")
    write(tmp_path / "stray.png")
    with pytest.raises(MiningError, match=r"stray\.png lies beside"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("target", ["/etc/hostname", "/etc"])
def test_it_refuses_a_link_out_of_the_root(tmp_path, target):
    write(tmp_path / "root/cat/1.png")
    (tmp_path / "root/cat/2.png").symlink_to(target)
    with pytest.raises(OutsideRoot, match=r"cat/2\.png is a link"):
        listed(tmp_path / "root")


def test_links_inside_the_root_are_listed_once_and_loops_end(tmp_path):
    write(tmp_path / "cat/1.png")
    (tmp_path / "cat/2.png").symlink_to(tmp_path / "cat/1.png")
    (tmp_path / "cat/loop").symlink_to(tmp_path / "cat")
    assert [key for key, _, _ in listed(tmp_path)] == ["cat/1.png", "cat/2.png"]


def test_names_that_are_not_utf8_are_listed_and_open(tmp_path):
    write(tmp_path / "c\\t/1.png", b"one")
    write(tmp_path / "c\\t" / os.fsdecode(b"\xff.png"), b"two")
    entries = list(open_source(str(tmp_path)).entries())
    assert [entry.key for entry in entries] == [r"c\\t/1.png", r"c\\t/\xff.png"]
    assert [read_bytes(entry.url) for entry in entries] == [b"one", b"two"]
    assert entries[0].label == r"c\\t"


def test_a_url_is_listed_like_a_folder(tmp_path):
    memory = fsspec.filesystem("memory")
    for name in ("train/dog/1.png", "train/cat/x::y.png", "test/cat/2.png"):
        memory.pipe_file(f"/farm/{name}", name.encode())
    entries = list(open_source("memory://farm").entries())
    assert [(entry.key, entry.label, entry.split) for entry in entries] == [
        ("test/cat/2.png", "cat", "test"),
        ("train/cat/x::y.png", "cat", "train"),
        ("train/dog/1.png", "dog", "train"),
    ]
    assert [read_bytes(entry.url) for entry in entries][1] == b"train/cat/x::y.png"


@pytest.mark.parametrize("root", ["{tmp}", "memory://longing"])
@pytest.mark.parametrize(
    ("label", "reason"),
    [("l" * 201, "shorten it to at most 200"), ("a\nb", "control character")],
)
def test_a_class_folder_whose_name_cannot_be_a_label_is_refused(
    tmp_path, root, label, reason
):
    root = root.format(tmp=tmp_path)
    with fsspec.open(f"{root}/train/{label}/1.png", "wb", auto_mkdir=True) as file:
        file.write(b"x")
    with pytest.raises(MiningError, match=reason) as caught:
        open_source(root)
    assert f"under {root} cannot be taken" in str(caught.value)
    assert "rename it and try again" in str(caught.value)
    fsspec.filesystem("memory").store.clear()


def test_an_escaped_name_counts_as_it_is_stored(tmp_path):
    write(tmp_path / os.fsdecode(b"\xff" * 60) / "1.png")
    with pytest.raises(MiningError, match="has 240 characters"):
        open_source(str(tmp_path))


def test_a_path_that_is_too_long_is_refused(tmp_path):
    write(tmp_path / "cat" / "/".join(["d" * 200] * 10) / "1.png")
    with pytest.raises(MiningError, match=r"has 2,0\d\d bytes; shorten it"):
        open_source(str(tmp_path))


def test_deep_folders_are_listed_in_order(tmp_path):
    deepest = "cat/b/deep/er/1.png"
    for name in ("cat/a/2.png", "cat/b/3.png", "cat/c.png", "cat/a.png", deepest):
        write(tmp_path / name)
    keys = [key for key, _, _ in listed(tmp_path)]
    assert keys == ["cat/a/2.png", "cat/a.png", "cat/b/3.png", deepest, "cat/c.png"]


def test_folders_may_lie_deeper_than_calls():
    key = "cat/" + "b/" * 980 + "1.png"

    class Deep(FolderSource):
        def _list_remote(self, folder):
            here = key.removeprefix(folder).lstrip("/")
            name, _, rest = here.partition("/")
            yield _Item(name, is_folder=bool(rest))

    assert [entry.key for entry in Deep("memory://deep").entries()] == [key]


@pytest.mark.parametrize("name", ["1\0.png", "\ud800.png"])
def test_a_name_in_a_bucket_that_cannot_be_stored_is_refused(name):
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/odd/cat/{name}", b"x")
    with pytest.raises(MiningError, match="half of a surrogate pair") as caught:
        open_source("memory://odd")
    memory.rm("/odd", recursive=True)
    assert "\0" not in str(caught.value)
    str(caught.value).encode()
