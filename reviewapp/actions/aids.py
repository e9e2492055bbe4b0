"""What helps to judge the findings of a scan, made when it is done."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import timedelta
from typing import Final

import numpy as np
from django.db import transaction
from django.utils import timezone

from mining.exceptions import ArtefactError
from mining.label_quality import read_class_thresholds, read_doubt_order
from reviewapp.actions.exemplars import choose_exemplars, make_pictures
from reviewapp.actions.lanes import set_doubt_order, set_label_from
from reviewapp.actions.lookalikes import find_lookalikes
from reviewapp.actions.matrices import keep_matrix
from reviewapp.exceptions import Refused
from reviewapp.models import Preparation, Scan
from reviewapp.storage import fetch_file, scratch_folder

logger = logging.getLogger(__name__)

What = Preparation.What
LEASE: Final = timedelta(minutes=15)  # nobody is at work on one for longer


def take_due(what: Preparation.What) -> list[int]:
    """Return the scans for which something is due, and put it off until the lease is over.

    If the message is lost or its worker dies, the scan is returned again then.
    """
    with transaction.atomic():
        rows = Preparation.objects.due(what).select_for_update(
            skip_locked=True, of=("self",)
        )
        scans = dict(rows.order_by("pk").values_list("pk", "scan"))
        Preparation.objects.filter(pk__in=scans).update(due_at=timezone.now() + LEASE)
    return list(scans.values())


def make_aids(*, scan: Scan) -> bool:
    """Write lanes, exemplars and lookalikes of a scan; running it twice changes nothing.

    Returns:
        False when there was nothing to do, or the artefact could not be read: that is tried
        again.
    """
    if _is_outdated(scan):
        scan.preparations.all().delete()
        return False
    with suppress(Refused):  # of too many classes there is none
        keep_matrix(scan=scan)  # a second that nobody who looks should wait for
    with scratch_folder() as folder:
        artefact = folder / "outcomes.parquet"
        try:
            fetch_file(scan.artefact, artefact)
            thresholds = read_class_thresholds(artefact, len(scan.classes))
            set_label_from(scan=scan, thresholds=thresholds)
            order = read_doubt_order(artefact, thresholds)
            set_doubt_order(scan=scan, order=order)
            covered = np.array(scan.classes)[~np.isnan(thresholds)].tolist()
            choose_exemplars(scan=scan, artefact=artefact, covered=covered)
            find_lookalikes(scan=scan, artefact=artefact)
        except (ArtefactError, OSError) as error:
            logger.warning("%s: no help for its findings yet (%s)", scan, error)
            return False
    with transaction.atomic():
        scan.preparations.filter(what=What.AIDS).delete()
        scan.preparations.update_or_create(
            what=What.PICTURES, defaults={"due_at": timezone.now()}
        )
    return True


def _is_outdated(scan: Scan) -> bool:
    """Whether it is not to be counted, or a later one says all that it says."""
    if not scan.is_done or scan.for_record:
        return True
    later = (
        Scan.objects.of_model(scan.model_version.registered_model)
        .finished()
        .counted()
        .filter(pk__gt=scan.pk, split__in=["", scan.split])
    )
    return later.exists()


def make_pictures_of(*, scan: Scan, seconds: float) -> bool:
    """Make thumbnails that a scan did not make; return whether none is left to make."""
    is_whole = make_pictures(
        model=scan.model_version.registered_model,
        seconds=seconds,
        imported=scan if scan.trigger == Scan.Trigger.IMPORT else None,
    )
    if is_whole:
        scan.preparations.filter(what=What.PICTURES).delete()
    return is_whole
