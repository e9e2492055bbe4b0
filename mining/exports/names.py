"""Names in exports that are harmless on every system, whatever the data set's are."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

from mining.sources import os_path_from_key
from mining.text import is_storable

_UNSAFE: Final = re.compile(r"[^\w.-]+")
_NAME_LENGTH: Final = 80
_NAME_BYTES: Final = 200  # of UTF-8; with what is put around it a file system takes 255
# Devices of Windows, whatever follows a dot.
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(name: str) -> str:
    """Return a name that is one harmless path component.

    A name that this changes gets a few digits of its own digest, so that two never become
    one.

    >>> safe_name("night-07.png"), safe_name("../etc")
    ('night-07.png', '_etc-f7f9121f')
    """
    clean = _UNSAFE.sub("_", name).strip(".")[-_NAME_LENGTH:]
    clean = clean.encode()[-_NAME_BYTES:].decode(errors="ignore")
    is_harmless = clean == name and name and not _DEVICE.fullmatch(name)
    return clean if is_harmless else _marked(clean, name)


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """Return label -> folder; labels that differ in case alone get digits of their own.

    >>> folder_names(["cat", "Fox", "fox"])
    {'cat': 'cat', 'Fox': 'Fox-f55bd2cd', 'fox': 'fox-776cb326'}
    """
    names = {label: safe_name(label) for label in labels}
    while True:  # a label may be spelt like the name that another one gets
        often = Counter(name.casefold() for name in names.values())
        if len(often) == len(names):
            return names
        names = {
            label: _marked(name, label) if often[name.casefold()] > 1 else name
            for label, name in names.items()
        }


def image_name(key: str) -> str:
    """Return a file name for the image of a key; another key has another one.

    >>> image_name("zoo/night 07.png")
    '223d16403af1d3c4-night_07-9c9e5c8d.png'
    """
    name = safe_name(key.rpartition("/")[2])
    return f"{hashlib.sha256(key.encode()).hexdigest()[:16]}-{name}"


def path_of(key: str) -> str:
    r"""Return the path below the root that a tool looks for; a key that is no text stays.

    >>> path_of("a/b\\\\c.png")
    'a/b\\c.png'
    """
    path = os_path_from_key(key)
    return path if is_storable(path) else key


def _marked(clean: str, name: str) -> str:
    stem, dot, suffix = clean.rpartition(".")
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{stem}-{mark}{dot}{suffix}" if dot else f"{clean}-{mark}"
