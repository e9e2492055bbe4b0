"""Model specs: the JSON beside a checkpoint, read without loading the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mining.exceptions import BadCheckpoint, ClassMismatch, UnreadableImage
from mining.sources.files import is_local, local_path, open_remote, read_bytes, sha256
from mining.types import ModelSpec

MAX_SPEC_BYTES: Final = 64 * 2**20


def spec_url(url: str) -> str:
    """Return where the spec of a checkpoint lies: `<file>.json`."""
    return f"{url}.json"


def read_spec(url: str) -> ModelSpec:
    """Read the spec beside a checkpoint.

    Raises:
        BadCheckpoint: It is missing or wrong; the message names the file and the field.
    """
    where = spec_url(url)
    try:
        data = json.loads(read_bytes(where, max_bytes=MAX_SPEC_BYTES))
        if not isinstance(data, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004, TRY301 (bad data)
        return ModelSpec.from_dict(data)
    except OSError as error:
        raise BadCheckpoint(
            f"The worker cannot see {where}: {error.strerror or error}. It must say the"
            " format, architecture, classes and preprocessing of the checkpoint."
        ) from error
    except RecursionError as error:
        raise BadCheckpoint(
            f"{where} is not a valid model spec: its lists are nested too deep."
        ) from error
    except (ValueError, UnreadableImage) as error:
        raise BadCheckpoint(f"{where} is not a valid model spec: {error}.") from error


def write_spec(url: str, spec: ModelSpec) -> None:
    """Write the spec beside a checkpoint, replacing what is there.

    Raises:
        OSError: The place cannot be written to.
    """
    text = json.dumps(spec.to_dict(), indent=2, ensure_ascii=False) + "\n"
    where = spec_url(url)
    if is_local(where):
        Path(local_path(where)).write_text(text, encoding="utf-8")
    else:
        fs, path = open_remote(where)
        fs.pipe_file(path, text.encode())


def check_classes(spec_classes: Sequence[str], dataset_classes: Sequence[str]) -> None:
    """Check that a model's classes are the data set's, in the same order.

    Raises:
        ClassMismatch: They are not; the message shows both lists and what differs.

    >>> check_classes(["cat", "dog"], ["cat", "dog"])
    """
    if tuple(spec_classes) != tuple(dataset_classes):
        raise ClassMismatch(model=spec_classes, dataset=dataset_classes)


def checkpoint_digest(url: str) -> str:
    """Return the SHA-256 of a checkpoint file in hex.

    Raises:
        BadCheckpoint: The file cannot be read.
    """
    try:
        return sha256(url)[0]
    except OSError as error:
        raise unseen(url, error) from error


def unseen(url: str, error: OSError) -> BadCheckpoint:
    """Return the error for a checkpoint that this machine cannot open."""
    return BadCheckpoint(
        f"The worker cannot see {url}: {error.strerror or error}. Put the file where every"
        " worker can read it, or register its address there."
    )
