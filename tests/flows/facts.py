"""Everything that a scan leaves behind, in a form that two scans can be compared by."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.core.files.storage import default_storage

from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Event,
    Finding,
    Scan,
    Sighting,
    UnreadableSample,
)
from tests.flows.worker import wait_for

Facts = dict[str, Any]
PAIR = ("true_label__name", "predicted_label__name")
TOTALS = ("samples", "correct", "errors", "near_misses", "unreadable")


def facts(scan: Scan) -> Facts:
    """Return what a scan left, without ids and times; floats and bytes exact."""
    scan.refresh_from_db()
    return {
        "state": (scan.state, scan.message),
        "totals": [getattr(scan, name) for name in (*TOTALS, "rechecked", "changed")],
        "shards": list(
            scan.shards.order_by("number").values_list("number", "state", *TOTALS)
        ),
        "findings": findings(scan),
        "sightings": sightings(scan),
        "counts": list(
            scan.confusion_counts.order_by(*PAIR).values_list(*PAIR, "count")
        ),
        "unreadable": list(
            UnreadableSample.objects.filter(scan=scan)
            .order_by("sample")
            .values_list("sample", "reason", "digest")
        ),
        "ledger": ledger(scan),
        "history": history(scan),
        "events": list(
            Event.objects.filter(object_type="Scan", object_id=scan.pk)
            .order_by("id")
            .values_list("action", flat=True)
        ),
        "artefact": artefact(scan),
        "files": sorted(files(scan)),
    }


def findings(scan: Scan) -> list[tuple[Any, ...]]:
    fields = ("kind", "review_state", "presence", "priority", "confidence", "digest")
    rows = Finding.objects.filter(
        registered_model=scan.model_version.registered_model
    ).order_by("sample", *PAIR)
    return list(
        rows.values_list("sample", *PAIR, *fields, "version", "reopened_because")
    )


def sightings(scan: Scan) -> list[tuple[Any, ...]]:
    names = [f"finding__{name}" for name in ("sample", *PAIR)]
    fields = ("confidence", "p_true", "margin", "loss", "top_labels", "top_probs")
    rows = Sighting.objects.filter(scan=scan).order_by(*names)
    return list(rows.values_list(*names, *fields))


def ledger(scan: Scan) -> list[tuple[Any, ...]]:
    rows = Confusion.objects.filter(
        registered_model=scan.model_version.registered_model
    ).order_by(*PAIR)
    return list(rows.values_list(*PAIR, "state", "present", "peak"))


def history(scan: Scan) -> list[tuple[Any, ...]]:
    """Return the changes of the ledger's lines."""
    names = [f"confusion__{name}" for name in PAIR]
    rows = ConfusionEvent.objects.filter(
        confusion__registered_model=scan.model_version.registered_model
    ).order_by(*names, "id")
    return list(rows.values_list(*names, "old_state", "new_state", "evidence"))


def artefact(scan: Scan) -> bytes:
    if not scan.artefact:
        return b""
    with default_storage.open(scan.artefact) as file:
        return file.read()


def files(scan: Scan) -> list[str]:
    """Return the names of the scan's files in the storage, without its folder."""
    try:
        return default_storage.listdir(f"scans/{scan.pk}")[1]
    except FileNotFoundError:
        return []


def settle(scan: Scan) -> None:
    """Wait until the parts of a scan that is done are deleted: they are after its end."""
    with suppress(AssertionError):  # then the files that are left say so
        wait_for(lambda: len(files(scan)) <= 1, seconds=20)


def differing(one: Facts, other: Facts) -> list[str]:
    """Return the names of the facts in which two scans differ."""
    return [name for name in one if one[name] != other[name]]
