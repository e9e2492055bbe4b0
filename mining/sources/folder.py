"""A data set as folders: `root/<class>/…` or `root/<split>/<class>/…`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mining.exceptions import EmptySource, MiningError, OutsideRoot
from mining.sources.files import is_local, local_path, open_remote, plain_errors
from mining.sources.keys import key_from_os_path
from mining.sources.roots import escapes, forget_real_folders
from mining.text import check_key, check_label, shown
from mining.types import SourceEntry, Split

IMAGE_SUFFIXES: Final = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif",
)  # fmt: skip
SPLIT_NAMES: Final[dict[str, Split]] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class _Item:
    """One name in a folder."""

    name: str
    is_folder: bool

    @property
    def is_image(self) -> bool:
        return not self.is_folder and self.name.lower().endswith(IMAGE_SUFFIXES)


class FolderSource:
    """Lists the images of class folders in the order of their names.

    Hidden names are skipped. A link to a folder inside the root is not followed: its target
    is listed under its own name, and a loop ends. One folder's names are held at a time.
    """

    kind: Literal["folder"] = "folder"

    def __init__(self, root: str) -> None:
        self.root = root
        self._local = is_local(root)
        self._real_root = os.path.realpath(local_path(root)) if self._local else ""

    def validate(self) -> None:
        """Check that the root can be listed and holds at least one labelled image.

        Raises:
            EmptySource: There is no image in a class folder.
            MiningError: The root is missing, or an image lies beside the class folders.
        """
        if next(self.entries(), None) is None:
            raise EmptySource(
                f"{self.root} holds no images in class folders. Put them under"
                " <class>/ or <split>/<class>/, or give a manifest."
                f" Images end in {', '.join(IMAGE_SUFFIXES)}."
            )

    def entries(self) -> Iterator[SourceEntry]:
        """Yield every image, folder by folder, sorted by name.

        Raises:
            OutsideRoot: A link leads out of the root; the message names the file.
            MiningError: A name cannot be stored, or a folder cannot be listed.
        """
        forget_real_folders()
        top = self._class_folders("")
        names = [name.lower() for name in top]
        has_splits = bool(names) and all(name in SPLIT_NAMES for name in names)
        for name in top:
            if has_splits:
                split = SPLIT_NAMES[name.lower()]
                for label in self._class_folders(name):
                    yield from self._images(f"{name}/{label}", label, split)
            else:
                yield from self._images(name, name, "")

    def _class_folders(self, folder: str) -> list[str]:
        items = self._list(folder)
        stray = next((item.name for item in items if item.is_image), None)
        if stray is not None:
            where = key_from_os_path(f"{folder}/{stray}".lstrip("/"))
            raise MiningError(
                f"{where} lies beside the class folders of {self.root} and so has no"
                " label. Nothing was taken; move it into a class folder."
            )
        return [item.name for item in items if item.is_folder]

    def _images(self, folder: str, label: str, split: Split) -> Iterator[SourceEntry]:
        label = key_from_os_path(label)
        self._check(check_label, label, folder)
        # A stack of its own: folders may lie deeper than Python's calls.
        waiting = [(folder, _Item("", is_folder=True))]
        while waiting:
            path, item = waiting.pop()
            if item.is_folder:
                found = reversed(self._list(path))
                waiting += ((f"{path}/{inner.name}", inner) for inner in found)
            elif item.is_image:
                key = key_from_os_path(path)
                self._check(check_key, key, path)
                url = f"{self.root.rstrip('/')}/{path}"
                yield SourceEntry(key=key, url=url, label=label, split=split)

    def _check(self, check: Callable[[str], None], name: str, path: str) -> None:
        try:
            check(name)
        except ValueError as error:
            raise MiningError(
                f"{shown(path)} under {self.root} cannot be taken: {error}. Nothing was"
                " taken; rename it and try again."
            ) from error

    def _list(self, folder: str) -> list[_Item]:
        listing = self._list_local if self._local else self._list_remote
        try:
            return sorted(listing(folder), key=lambda item: os.fsencode(item.name))
        except UnicodeEncodeError as error:
            raise MiningError(
                f"{shown(folder)} under {self.root} holds a name with half of a surrogate"
                " pair. Nothing was taken; rename it and try again."
            ) from error
        except OSError as error:
            where = f"{self.root}/{folder}".rstrip("/")
            reason = error.strerror or error
            raise MiningError(f"{where} cannot be listed: {reason}.") from error

    def _list_local(self, folder: str) -> Iterator[_Item]:
        with os.scandir(Path(local_path(self.root), folder)) as found:
            for entry in found:
                if entry.name.startswith("."):
                    continue
                linked = entry.is_symlink()
                if linked and escapes(entry.path, self._real_root):
                    key = key_from_os_path(f"{folder}/{entry.name}".lstrip("/"))
                    raise OutsideRoot(
                        f"{key} is a link that leads out of {self.root}. Nothing was"
                        " taken; copy the file into the folder or remove the link."
                    )
                if not (linked and entry.is_dir()):
                    yield _Item(entry.name, entry.is_dir())

    def _list_remote(self, folder: str) -> Iterator[_Item]:
        fs, base = open_remote(self.root)
        path = f"{base.rstrip('/')}/{folder}".rstrip("/") or "/"
        with plain_errors(self.root):
            found = fs.ls(path, detail=True)
        for entry in found:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            # Buckets list a folder's own marker object among its content.
            itself = entry["name"].strip("/") == path.strip("/")
            if name and not itself and not name.startswith("."):
                yield _Item(name, entry["type"] == "directory")
