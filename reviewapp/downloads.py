"""Files of the storage, sent with a name that is safe on every system."""

from __future__ import annotations

import logging
from typing import Any

from django.core.files import File
from django.core.files.storage import default_storage
from django.http import FileResponse, HttpResponse

from reviewapp.exceptions import HardmineError, Refused
from reviewapp.models import Export, Recipe
from reviewapp.storage import storage_errors

logger = logging.getLogger(__name__)


class NotStored(HardmineError):  # noqa: N818 (as the other refusals)
    """A file is not in the storage, or cannot be read from it."""

    status = 404


def open_stored(name: str, *, advice: str) -> File[Any]:
    """Open a file of the storage to send it.

    Args:
        name: Its name in the storage.
        advice: What is kept and what to do, for whoever does not get it.

    Raises:
        NotStored: It is gone, a folder is in its place, or it may not be read.
    """
    try:
        return default_storage.open(name)
    except storage_errors() as error:
        if not isinstance(error, FileNotFoundError):
            logger.warning("%s cannot be read: %s", name, error)
        raise NotStored(
            f"{name} is gone or cannot be read from the storage. {advice}"
        ) from error


def send_export(export: Export) -> FileResponse:
    """Stream the file of a finished export.

    Raises:
        Refused: It is not finished.
        NotStored: Its file is gone or cannot be read.
    """
    if export.state != Export.State.DONE:
        raise Refused(f"The export is {export.state}. There is no file to download.")
    file = open_stored(
        export.file,
        advice="The fix set is kept; export it again: it gives the same file.",
    )
    return FileResponse(file, as_attachment=True, filename=export.file_name)


def send_recipe(recipe: Recipe) -> HttpResponse:
    """Send the JSON of a recipe, byte for byte as its digest has it.

    Raises:
        Refused: It is not done.
    """
    if not recipe.is_done:
        raise Refused(f"The recipe is {recipe.state}. There is no file to download.")
    response = HttpResponse(recipe.content, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{recipe.file_name}"'
    return response
