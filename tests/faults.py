"""A scan of four shards for tests of what goes wrong, without a broker."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.files.storage import default_storage
from django.utils import timezone

from reviewapp import tasks
from reviewapp.actions.scans import start_scan
from reviewapp.models import Confusion, Finding, ModelVersion, Scan


def start(net: ModelVersion) -> Scan:
    """Start a scan of 17 samples in four shards of up to 5."""
    return start_scan(
        dataset=net.registered_model.dataset,
        version=net,
        trigger=Scan.Trigger.API,
        by=None,
        settings={"shard_size": 5},
    )


def run_all(scan: Scan) -> Scan:
    """Run what is queued until nothing is, then finish."""
    run_shards(scan)
    tasks.finish_scan(scan.pk)
    scan.refresh_from_db()
    return scan


def run_shards(scan: Scan) -> None:
    """Run what is queued until nothing is; each shard has three attempts at most."""
    for _ in range(3):
        for shard in scan.shards.filter(state="queued"):
            tasks.run_shard(shard.pk)


def facts(scan: Scan) -> dict[str, object]:
    """Return all that a scan leaves, but for ids of rows and times."""
    with default_storage.open(scan.artefact) as file:
        artefact = file.read()
    model = scan.model_version.registered_model
    lines = Confusion.objects.filter(registered_model=model)
    pair = ("true_label__name", "predicted_label__name")
    seen = ("confidence", "p_true", "margin", "loss", "top_labels", "top_probs")
    found = Finding.objects.filter(registered_model=model)
    return {
        "totals": (scan.correct, scan.errors, scan.near_misses, scan.unreadable),
        "artefact": artefact,
        "counts": sorted(scan.confusion_counts.values_list(*pair, "count")),
        "lines": sorted(lines.values_list(*pair, "state", "present", "peak")),
        "findings": sorted(found.values_list("sample", *pair, "presence", "priority")),
        "sightings": sorted(scan.sightings.values_list("finding__sample", *seen)),
    }


def long_ago() -> datetime:
    return timezone.now() - timedelta(hours=1)
