"""The team of `world_of_findings`: people, scans, the ledger, and their verdicts."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import numpy as np
import pyarrow as pa
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.utils import timezone

from mining.types import ScanSettings
from reviewapp.copying import copy_columns
from reviewapp.models import (
    Claim,
    Confusion,
    ConfusionEvent,
    Dataset,
    Exemplar,
    Finding,
    Label,
    Lookalike,
    Membership,
    ModelVersion,
    RegisteredModel,
    Registration,
    Review,
    Scan,
    Skip,
    Undo,
    User,
)
from tests.benchmarks.rows_of_findings import (
    VERDICTS,
    Values,
    World,
    copy,
    digests,
    ids_of,
)

SCANS, REVIEWERS = 200, 50
DAYS = 60  # of reviewing
CAUSES = np.array(["{}", "{similar_appearance}", "{pose,lighting}", "{label_wrong}"])
LEDGER = np.array(["open", "in_review", "regressed"])


def people_and_scans(world: World) -> None:
    """Write what there is little of."""
    with connection.cursor() as cursor:  # rows are right by construction
        cursor.execute("SET session_replication_role = replica")
    password = make_password("correct horse battery")
    names = [f"reviewer{n:02d}" for n in range(REVIEWERS)] + ["lead", "admin"]
    people = User.objects.bulk_create(
        User(username=n, password=password) for n in names
    )
    data = Dataset.objects.create(name="Shelf", slug=world.slug, root="memory://data")
    Membership.objects.bulk_create(
        Membership(
            user=user,
            dataset=data,
            role=user.username if user.username in {"lead", "admin"} else "reviewer",
        )
        for user in people
    )
    Registration.objects.create(dataset=data, state="done", total=5 * len(world.true))
    Label.objects.bulk_create(
        Label(dataset=data, name=f"class {i:03d}", index=i)
        for i in range(world.classes)
    )
    model = RegisteredModel.objects.create(dataset=data, name="shelf net")
    versions = ModelVersion.objects.bulk_create(
        ModelVersion(
            registered_model=model,
            number=n + 1,
            checkpoint=f"memory://models/{n}.onnx",
            digest=hashlib.sha256(str(n).encode()).hexdigest(),
            format="onnx",
            classes=[f"class {i:03d}" for i in range(world.classes)],
            preprocessing={},
        )
        for n in range(SCANS)
    )
    _scans(world, data, versions)


def _scans(world: World, data: Dataset, versions: list[ModelVersion]) -> None:
    errors = int((world.presence != 1).sum())
    labels = list(data.labels.order_by("index").values_list("pk", flat=True))
    now = timezone.now()
    scans = Scan.objects.bulk_create(
        Scan(
            dataset=data,
            model_version=version,
            state="done",
            trigger="schedule",
            settings=ScanSettings().to_dict(),
            classes=labels,
            samples=5 * len(world.true),
            correct=5 * len(world.true) - errors,
            errors=errors,
            near_misses=errors // 20,
            unreadable=0,
            started_at=now - timedelta(days=SCANS - n),
            finished_at=now - timedelta(days=SCANS - n),
        )
        for n, version in enumerate(versions)
    )
    for n, scan in enumerate(scans):
        scan.created_at = now - timedelta(days=SCANS - n)
    Scan.objects.bulk_update(scans, ["created_at"])


def history(world: World) -> None:
    """Write the counts of every scan, the ledger and its events."""
    labels, scans = ids_of(Label), ids_of(Scan)
    diagonal = np.arange(world.classes)
    true = np.concatenate([world.pairs[:, 0], diagonal])
    predicted = np.concatenate([world.pairs[:, 1], diagonal])
    sizes = np.bincount(
        world.true * world.classes + world.predicted, minlength=world.classes**2
    )[true * world.classes + predicted]
    for n, scan in enumerate(scans):
        counts = (
            sizes * (1.5 - n / (2 * SCANS)) * world.rng.uniform(0.8, 1.2, len(sizes))
            + 1
        )
        copy_columns(
            "reviewapp_confusioncount",
            {
                "scan_id": np.full(len(true), scan),
                "true_label_id": labels[true],
                "predicted_label_id": labels[predicted],
                "count": counts.astype(np.int32),
            },
        )
    _ledger(world, labels, scans, sizes[: len(world.pairs)])


def _ledger(world: World, labels: Values, scans: Values, sizes: Values) -> None:
    n = len(world.pairs)
    state = world.rng.choice(3, n, p=[0.2, 0.7, 0.1])
    copy(
        Confusion,
        {
            "id": np.arange(1, n + 1),
            "dataset_id": Dataset.objects.get().pk,
            "registered_model_id": RegisteredModel.objects.get().pk,
            "true_label_id": labels[world.pairs[:, 0]],
            "predicted_label_id": labels[world.pairs[:, 1]],
            "state": LEDGER[state],
            "present": sizes,
            "peak": sizes * 2,
            "first_scan_id": int(scans[0]),
            "last_scan_id": int(scans[-1]),
        },
    )
    for back, new in ((90, "open"), (60, "in_review"), (30, "regressed")):
        copy(
            ConfusionEvent,
            {
                "confusion_id": np.arange(1, n + 1),
                "scan_id": int(scans[-back]),
                "new_state": new,
            },
        )


def reviews(world: World) -> None:
    """Write the verdicts of fifty people over two months, a few of them undone."""
    labels, people = ids_of(Label), ids_of(User)[:REVIEWERS]
    done = world.rng.permutation(np.flatnonzero(world.state > 0))
    n = len(done)
    state = world.state[done]
    new = pa.array(labels[world.predicted[done]], mask=state != 2)
    copy(
        Review,
        {
            "id": np.arange(1, n + 1),
            "dataset_id": Dataset.objects.get().pk,
            "finding_id": done + 1,
            "finding_version": 0,
            "reviewer_id": world.rng.choice(people, n),
            "verdict": VERDICTS[state],
            "label_before_id": labels[world.true[done]],
            "new_label_id": new,
            "state_before": "open",
            "causes": CAUSES[world.rng.choice(len(CAUSES), n)],
            "created_at": _moments(world.rng, n),
        },
    )
    _undone(world, people, labels, first=n + 1)


def _undone(world: World, people: Values, labels: Values, *, first: int) -> None:
    waiting = np.flatnonzero(world.state == 0)
    taken_back = world.rng.choice(waiting, len(waiting) // 50, replace=False)
    ids = np.arange(first, first + len(taken_back))
    by = world.rng.choice(people, len(ids))
    copy(
        Review,
        {
            "id": ids,
            "dataset_id": Dataset.objects.get().pk,
            "finding_id": taken_back + 1,
            "finding_version": 0,
            "reviewer_id": by,
            "verdict": "confirm",
            "label_before_id": labels[world.true[taken_back]],
            "state_before": "open",
            "created_at": _moments(world.rng, len(ids)),
        },
    )
    copy(Undo, {"review_id": ids, "by_id": by})
    Finding.objects.filter(pk__in=(taken_back + 1).tolist()).update(version=2)


def desk(world: World) -> None:
    """Write claims that have expired, skips, exemplars and lookalikes."""
    people = ids_of(User)[:REVIEWERS]
    waiting = np.flatnonzero(world.state == 0) + 1
    held = world.rng.choice(waiting, min(250, len(waiting)), replace=False)
    then = (timezone.now() - timedelta(hours=3)).isoformat()
    by = world.rng.choice(people, len(held))
    copy(Claim, {"finding_id": held, "reviewer_id": by, "expires_at": then})
    put_off = world.rng.choice(waiting, len(waiting) // 1000, replace=False)
    by = world.rng.choice(people, len(put_off))
    copy(Skip, {"finding_id": put_off, "reviewer_id": by})
    _exemplars(world)
    alike = np.sort(world.rng.choice(waiting[:-1], len(waiting) // 50, replace=False))
    alike = alike[::2]
    for one, other in ((alike, alike + 1), (alike + 1, alike)):
        rows = {"sample_id": one, "other_id": other, "distance": 2}
        copy(Lookalike, {"dataset_id": Dataset.objects.get().pk, **rows})


def _exemplars(world: World) -> None:
    labels = np.repeat(ids_of(Label), 6)
    samples = np.arange(1, len(labels) + 1)
    copy(
        Exemplar,
        {
            "registered_model_id": RegisteredModel.objects.get().pk,
            "label_id": labels,
            "sample_id": samples,
            "scan_id": int(ids_of(Scan)[-1]),
            "digest": digests(samples),
            "confidence": 0.99,
            "place": np.tile(np.arange(6), world.classes),
        },
    )


def _moments(rng: np.random.Generator, n: int) -> Values:
    """Return n moments of the last two months as text, the oldest first."""
    ago = np.sort(rng.random(n))[::-1] * DAYS * 86_400_000
    now = np.datetime64(timezone.now().replace(tzinfo=None), "ms")
    return np.char.add(np.datetime_as_string(now - ago.astype("timedelta64[ms]")), "Z")
