"""What each class looks like: the surest right samples of the last scan, to be shown."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from django.core.files.storage import default_storage
from django.db import transaction

from mining.artefact import File
from mining.exceptions import MiningError
from mining.exemplars import Right, choose_different, surest_right
from mining.sources import read_bytes
from mining.threads import available_cpus
from reviewapp.models import Exemplar, RegisteredModel, Sample, Scan
from reviewapp.thumbnails import SIZES, ensure_thumbnails, thumbnail_name

EACH = 6  # of a class
CANDIDATES = 24  # of a class: some look alike, some were removed since
SAMPLES_AT_ONCE = 5000
logger = logging.getLogger(__name__)


def choose_exemplars(*, scan: Scan, artefact: File, covered: Sequence[int]) -> int:
    """Replace the exemplars of the classes that a scan covered; return how many there are.

    They are the right predictions that it was surest of, different images all, of samples
    that are as they were when scanned.

    Args:
        scan: The last one that is done.
        artefact: Its outcomes.
        covered: Ids of the labels that it has samples of.

    Raises:
        ArtefactError: The artefact is missing or damaged.
    """
    model = scan.model_version.registered_model
    chosen = [
        Exemplar(
            registered_model=model,
            label_id=scan.classes[row.label],
            sample_id=row.id,
            scan=scan,
            digest=row.digest,
            confidence=row.confidence,
            place=place,
        )
        for _, rows in groupby(_candidates(scan, artefact), lambda row: row.label)
        for place, row in enumerate(choose_different(rows, most=EACH))
    ]
    _replace(model, chosen, covered)
    return len(chosen)


def _replace(
    model: RegisteredModel, chosen: Sequence[Exemplar], covered: Sequence[int]
) -> None:
    with transaction.atomic():
        # Two runs take turns.
        RegisteredModel.objects.select_for_update(no_key=True).get(pk=model.pk)
        kept = Exemplar.objects.bulk_create(
            chosen,
            update_conflicts=True,
            unique_fields=["registered_model", "label", "place"],
            update_fields=["sample", "scan", "digest", "confidence"],
        )
        of_model = Exemplar.objects.of_model(model)
        gone = of_model.filter(label__in=covered) | of_model.filter(
            label__index__isnull=True
        )
        gone.exclude(pk__in=[row.pk for row in kept]).delete()


def _candidates(scan: Scan, artefact: File) -> Iterator[Right]:
    """Yield the surest right samples, class by class, that are still what they were."""
    surest = surest_right(artefact, len(scan.classes), most=CANDIDATES)
    rows = list(surest)
    for start in range(0, len(rows), SAMPLES_AT_ONCE):
        some = rows[start : start + SAMPLES_AT_ONCE]
        samples = Sample.objects.present().filter(pk__in=[row.id for row in some])
        now = {
            pk: (label, digest)
            for pk, label, digest in samples.values_list("pk", "label_id", "digest")
        }
        for row in some:
            if now.get(row.id) == (scan.classes[row.label], row.digest):
                yield row


def make_pictures(*, model: RegisteredModel, seconds: float) -> bool:
    """Make the thumbnails of a model's exemplars that are not stored yet.

    An image that cannot be read, or is another one by now, gets none. A root that this host
    cannot reach at all, as that of an import may be, is left alone.

    Args:
        model: Whose exemplars.
        seconds: After which no more are begun.

    Returns:
        Whether there is nothing left that another call could make.

    Raises:
        ArtefactError: The storage could not take one.
    """
    deadline = time.monotonic() + seconds
    rows = Exemplar.objects.of_model(model).select_related("sample__dataset")
    album = _Album(deadline)
    with ThreadPoolExecutor(available_cpus()) as pool:
        deque(pool.map(album.add, rows.order_by("place", "label")), maxlen=0)
    return album.is_whole or not album.made


class _Album:
    """Makes thumbnails until the deadline; called by several threads."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._unreachable = False
        self.made = 0
        self.is_whole = True

    def add(self, exemplar: Exemplar) -> None:
        if self._unreachable or _is_stored(exemplar.digest):
            return
        if time.monotonic() > self._deadline:
            self.is_whole = False
            return
        try:
            data = read_bytes(exemplar.sample.url)
        except (ConnectionError, TimeoutError) as error:
            logger.info("%s: no exemplars from this host (%s)", exemplar.sample, error)
            self._unreachable = True
        except (OSError, MiningError) as error:
            logger.info("%s has no picture: %s", exemplar.sample, error)
        else:
            if hashlib.sha256(data).hexdigest() == exemplar.digest:
                self.made += ensure_thumbnails(exemplar.digest, data)


def _is_stored(digest: str) -> bool:
    return all(default_storage.exists(thumbnail_name(digest, size)) for size in SIZES)
