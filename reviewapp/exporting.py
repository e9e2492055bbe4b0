"""Write a frozen fix set in each format, streamed from the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote_from_bytes

from django.db.models.functions import Substr

from mining import exports
from mining.exceptions import ArtefactError, MiningError
from mining.fixset import FixRow
from mining.sources import os_path_from_key, read_bytes, url_for
from mining.sources.files import is_local
from reviewapp.models import Export, FixSet

CHUNK = 2_000  # rows fetched at once
PART = 1_000_000  # characters of a recipe fetched at once
Progress = Callable[[int], None]


def write_export(export: Export, file: BinaryIO, progress: Progress) -> None:
    """Write the file of an export; the same frozen set always gives the same bytes.

    Args:
        export: Its fix set and data set are read.
        file: Opened for writing bytes.
        progress: Called with how many items are written, often.

    Raises:
        ArtefactError: The file would not hold the whole set.
        MiningError: Something that it needs cannot be read any more.
    """
    job = _Job(export.fix_set, file, progress)
    written = job.writer(Export.Format(export.format))()
    if written is not None and written != export.fix_set.size:
        raise ArtefactError(
            f"{written:,} of {export.fix_set.size:,} items were written. Nothing was"
            " exported; the fix set is kept. Export it again."
        )


@dataclass(frozen=True)
class _Job:
    fix_set: FixSet
    file: BinaryIO
    progress: Progress

    def writer(self, format: Export.Format) -> Callable[[], int | None]:
        """Return what writes a format; it returns how many items, None when unknown."""
        file, rows, labels = self.file, self._rows, self._labels
        kinds = Export.Format
        return {
            kinds.JSONL: lambda: exports.write_jsonl(rows(), file),
            kinds.CSV: lambda: exports.write_csv(rows(), file),
            kinds.PARQUET: lambda: exports.write_parquet(rows(), file),
            kinds.ZIP: lambda: exports.write_class_folders(
                rows(), file, self._image, labels=labels("label")
            ),
            kinds.IMAGEFOLDER: lambda: exports.write_imagefolder(
                rows(), file, self._image
            ),
            kinds.COCO: lambda: exports.write_coco(
                rows(), file, labels=labels("label"), digest=self.fix_set.digest
            ),
            kinds.LABEL_STUDIO: lambda: exports.write_label_studio(
                rows(),
                file,
                labels=labels("label", "predicted"),
                image_url=self._label_studio_url,
            ),
            kinds.FIFTYONE: lambda: exports.write_fiftyone(
                rows(), file, self._image, labels=labels("label")
            ),
            kinds.CVAT: lambda: exports.write_cvat(
                rows(), file, labels=labels("label")
            ),
            kinds.RECIPE: self._write_recipe,
            kinds.PATCH: lambda: self._correct(exports.write_patch),
            kinds.MANIFEST: self._write_manifest,
        }[format]

    @property
    def _root(self) -> str:
        return self.fix_set.dataset.root

    def _rows(self) -> Iterator[FixRow]:
        items = self.fix_set.items.in_export_order().iterator(chunk_size=CHUNK)
        for done, item in enumerate(items, start=1):
            yield item.as_row()
            self.progress(done)

    def _labels(self, *fields: str) -> list[str]:
        return self.fix_set.items.names_in(*fields)

    def _image(self, row: FixRow) -> bytes:
        try:
            return read_bytes(url_for(self._root, row.sample_key))
        except OSError as error:
            raise MiningError(
                f"{row.sample_key} cannot be read any more ({error}). The fix set is "
                "kept. Bring the image back, or export a format without images."
            ) from error

    def _label_studio_url(self, row: FixRow) -> str:
        """Return a bucket's URL, or the one of Label Studio's local files."""
        if not is_local(self._root):
            return url_for(self._root, row.sample_key)
        path = os_path_from_key(row.sample_key).encode(errors="surrogateescape")
        return f"/data/local-files/?d={quote_from_bytes(path)}"

    def _write_recipe(self) -> None:
        recipe = self.fix_set.recipes.done().newest_first().defer("content").first()
        if recipe is None:
            raise MiningError("The fix set has no finished recipe. Make one first.")
        parts = self.fix_set.recipes.filter(pk=recipe.pk)
        at = 1
        while part := parts.values_list(Substr("content", at, PART), flat=True).get():
            self.file.write(part.encode())
            self.progress(0)
            at += PART

    def _write_manifest(self) -> int | None:
        if self.fix_set.dataset.manifest:
            self._correct(exports.write_manifest)
            return None
        return exports.write_moves(self._rows(), self.file)

    def _correct(self, write: Callable[..., None]) -> None:
        dataset = self.fix_set.dataset
        write(
            f"{self._root.rstrip('/')}/{dataset.manifest}",
            dataset.manifest,
            self._corrections,
            self.file,
            expected=self.fix_set.items.corrected().count_images(),
            progress=self.progress,
        )

    def _corrections(self, keys: Sequence[str]) -> Mapping[str, exports.Correction]:
        found: dict[str, exports.Correction] = {}
        items = self.fix_set.items.corrected().filter(sample_key__in=keys)
        names = ("sample_key", "original_label", "true_label", "label")
        for key, original, true, label in items.values_list(*names).order_by("id"):
            known = found[key].old if key in found else frozenset()
            found[key] = exports.Correction(known | {original, true}, label)
        return found
