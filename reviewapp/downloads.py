"""Files of the storage, sent with a name that is safe on every system."""

from __future__ import annotations

from django.core.files.storage import default_storage
from django.http import FileResponse
from django.utils.text import slugify

from reviewapp.exceptions import Refused
from reviewapp.models import Export


def export_name(export: Export) -> str:
    """Return a file name of ASCII letters, digits, "-" and "." for an export."""
    fix_set = export.fix_set
    stem = slugify(fix_set.name)[:60] or "fix-set"
    return f"{stem}-{fix_set.digest[:8]}.{export.format}"


def send_export(export: Export) -> FileResponse:
    """Stream the file of a finished export.

    Raises:
        Refused: It is not finished, or its file is gone.
    """
    if export.state != Export.State.DONE:
        raise Refused(f"The export is {export.state}. There is no file to download.")
    try:
        file = default_storage.open(export.file)
    except FileNotFoundError:
        raise Refused(
            f"{export_name(export)} is not in the storage any more. The fix set is "
            "kept; export it again: it gives the same file."
        ) from None
    return FileResponse(file, as_attachment=True, filename=export_name(export))
