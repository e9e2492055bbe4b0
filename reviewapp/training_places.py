"""Where trained weights are put: under the first model root, whole or not at all."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from mining.exceptions import ArtefactError
from mining.sources import resolve_under_roots
from mining.sources.files import is_local, local_path, open_remote, plain_errors
from mining.specs import spec_url
from reviewapp.models import TrainingRun
from reviewapp.storage import FULL

logger = logging.getLogger(__name__)


def place_of(run: TrainingRun) -> str:
    """Return the path or URL of the weights of a run's attempt, as it is registered."""
    if not settings.MODEL_ROOTS:
        raise ArtefactError(
            "There is no place for trained weights: name a folder or a bucket in "
            "HARDMINE_MODEL_ROOTS and resume the run."
        )
    root = settings.MODEL_ROOTS[0].rstrip("/")
    name = f"{run.pk}-{run.attempts}.safetensors"
    return resolve_under_roots(
        f"{root}/retrained/{run.dataset.slug}/{name}",
        settings.MODEL_ROOTS,
        setting="HARDMINE_MODEL_ROOTS",
    )


def require_writable(url: str) -> None:
    """Check, before hours of training, that something can be put there.

    Raises:
        ArtefactError: It cannot.
    """
    probe = f"{url}.probe"
    try:
        if is_local(probe):
            path = Path(local_path(probe))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"probe")
            path.unlink()
        else:
            fs, remote = open_remote(probe)
            with plain_errors(probe):
                fs.pipe_file(remote, b"probe")
                fs.rm_file(remote)
    except OSError as error:
        raise _no_place(url, error) from error


def publish(weights: Path, url: str) -> None:
    """Put a checkpoint and the spec beside it there; the checkpoint comes last.

    Raises:
        ArtefactError: They could not be put there, and nothing of them is.
    """
    try:
        for source, target in ((spec_url(str(weights)), spec_url(url)), (weights, url)):
            _copy(Path(source), target)
    except OSError as error:
        withdraw(url)
        raise _no_place(url, error) from error


def withdraw(url: str) -> None:
    """Remove a checkpoint and its spec; what cannot be removed is only in the way."""
    for target in (url, spec_url(url)):
        try:
            if is_local(target):
                Path(local_path(target)).unlink(missing_ok=True)
            else:
                fs, path = open_remote(target)
                with plain_errors(target), suppress(FileNotFoundError):
                    fs.rm_file(path)
        except OSError as error:
            logger.warning("%s could not be removed (%s).", target, error)


def _copy(source: Path, url: str) -> None:
    if not is_local(url):
        fs, path = open_remote(url)
        with plain_errors(url):
            fs.put_file(str(source), path)
        return
    target = Path(local_path(url))
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _no_place(url: str, error: OSError) -> ArtefactError:
    what = "the disk is full" if error.errno in FULL else (error.strerror or str(error))
    return ArtefactError(
        f"{url} cannot be written: {what}. Nothing was half-written, and what was learned "
        "so far is kept. Make room, or let the worker write there, and resume the run."
    )
