"""The limit of what may be uploaded, told before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadhandler import FileUploadHandler
from django.utils.datastructures import MultiValueDict

FORM_BYTES = 1 << 20  # what the other fields of the form may add


class LimitedUploadHandler(FileUploadHandler):
    """Refuses a body that is larger than the largest file that is taken."""

    def handle_raw_input(
        self,
        input_data: Any,
        META: Mapping[str, Any],  # noqa: N803 (Django's name)
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> tuple[Any, MultiValueDict[str, Any]] | None:
        """Let the handlers after this one read a body of allowed size.

        Raises:
            RequestDataTooBig: It is larger.
        """
        if content_length > settings.IMPORT_MAX_BYTES + FORM_BYTES:
            raise RequestDataTooBig(
                f"The request has {content_length:,} bytes, more than the "
                f"{settings.IMPORT_MAX_BYTES:,} that this server takes."
            )
        return None

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Hand every piece on to the next handler."""
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave the file to the next handler."""
