"""A scan without a broker: what the worker's tasks do, one after the other."""

from __future__ import annotations

from pathlib import Path

from reviewapp.actions.datasets import (
    register_again as register_again_action,
)
from reviewapp.actions.datasets import register_dataset, run_registration
from reviewapp.actions.finishing import finish_scan
from reviewapp.actions.registry import register_version
from reviewapp.actions.scans import start_scan
from reviewapp.actions.shards import claim_shard
from reviewapp.models import Dataset, ModelVersion, Registration, Scan, User
from reviewapp.scanning import scan_shard


def register(
    root: Path, by: User, name: str = "Animals", manifest: str = ""
) -> Dataset:
    registration = register_dataset(name=name, root=str(root), manifest=manifest, by=by)
    run_registration(registration=registration)
    assert registration.state == Registration.State.DONE, registration.message
    return registration.dataset


def register_again(dataset: Dataset, by: User) -> Registration:
    registration = register_again_action(dataset=dataset, by=by)
    run_registration(registration=registration)
    assert registration.state == Registration.State.DONE, registration.message
    return registration


def add_version(dataset: Dataset, checkpoint: Path, name: str = "net") -> ModelVersion:
    return register_version(
        dataset=dataset, name=name, checkpoint=str(checkpoint), by=None
    )


def scan(version: ModelVersion, **options: object) -> Scan:
    """Start a scan and run all of it in this process."""
    started = start_scan(
        dataset=version.registered_model.dataset,
        version=version,
        trigger=Scan.Trigger.COMMAND,
        by=None,
        **options,
    )
    run(started)
    return started


def run(started: Scan) -> None:
    for shard_id in started.shards.unfinished().values_list("pk", flat=True):
        shard = claim_shard(shard_id=shard_id, worker="test")
        assert shard is not None
        assert scan_shard(shard)
    started.refresh_from_db()
    finish_scan(scan=started)
    started.refresh_from_db()
