"""What each class looks like: the surest right samples of the last scan, to be shown."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice

from django.core.files.storage import default_storage
from django.db import transaction

from mining.artefact import File
from mining.exceptions import MiningError
from mining.exemplars import Right, choose_different, surest_right
from mining.sources import read_bytes
from mining.threads import available_cpus
from reviewapp.models import Exemplar, Finding, RegisteredModel, Sample, Scan
from reviewapp.thumbnails import SIZES, ensure_thumbnails, thumbnail_name

EACH = 6  # of a class
CANDIDATES = 24  # of a class: some look alike, some were removed since
SAMPLES_AT_ONCE = 5000
PICTURES_AT_ONCE = 500
MISSING = 50  # images, and none that is there: the root is somewhere else
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


def make_pictures(
    *, model: RegisteredModel, seconds: float, imported: Scan | None = None
) -> bool:
    """Make the thumbnails of a model's exemplars that are not stored yet.

    Then those of the findings of an imported scan, the hardest first: no shard read their
    images.

    An image that cannot be read, or is another one by now, gets none. A root that this host
    cannot reach at all, as that of an import may be, is left alone.

    Args:
        model: Whose exemplars.
        seconds: After which no more are begun.
        imported: A scan whose predictions were made elsewhere.

    Returns:
        Whether there is nothing left that another call could make.

    Raises:
        ArtefactError: The storage could not take one.
    """
    deadline = time.monotonic() + seconds
    shown = _shown(model, imported)
    album = _Album(deadline)
    with ThreadPoolExecutor(available_cpus()) as pool:
        while album.is_open and (some := list(islice(shown, PICTURES_AT_ONCE))):
            deque(pool.map(album.add, some), maxlen=0)
    return album.is_whole or not album.made


def _shown(
    model: RegisteredModel, imported: Scan | None
) -> Iterator[Exemplar | Finding]:
    exemplars = Exemplar.objects.of_model(model).select_related("sample__dataset")
    yield from exemplars.order_by("place", "label")
    if imported:
        findings = Finding.objects.filter(sightings__scan=imported)
        rows = findings.select_related("sample__dataset").order_by("-priority")
        yield from rows.iterator(chunk_size=PICTURES_AT_ONCE)


class _Album:
    """Makes thumbnails until the deadline; called by several threads."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._unreachable = False
        self._missing = 0
        self.made = 0
        self.is_whole = True

    @property
    def is_open(self) -> bool:
        """Whether there is time, and somewhere to read from."""
        return self.is_whole and not self._unreachable

    def add(self, shown: Exemplar | Finding) -> None:
        if self._unreachable or _is_stored(shown.digest):
            return
        if time.monotonic() > self._deadline:
            self.is_whole = False
            return
        try:
            data = read_bytes(shown.sample.url)
        except (ConnectionError, TimeoutError) as error:
            logger.info("%s: no pictures from this host (%s)", shown.sample, error)
            self._unreachable = True
        except (OSError, MiningError) as error:
            logger.info("%s has no picture: %s", shown.sample, error)
            self._missing += 1
            self._unreachable = self._missing >= MISSING and not self.made
        else:
            if hashlib.sha256(data).hexdigest() == shown.digest:
                self.made += ensure_thumbnails(shown.digest, data)


def _is_stored(digest: str) -> bool:
    return all(default_storage.exists(thumbnail_name(digest, size)) for size in SIZES)
