"""The rows of `world_of_findings`: a team of fifty, two hundred scans, a long tail."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import connection, models, transaction
from django.utils import timezone
from PIL import Image
from pyarrow import csv

from reviewapp.copying import copy_columns
from reviewapp.models import (
    Confusion,
    Dataset,
    Finding,
    Label,
    RegisteredModel,
    Review,
    Sample,
    Scan,
    Standing,
)
from reviewapp.thumbnails import SIZES, thumbnail_name

ROWS_PER_PAIR = 100  # open errors, on average
IMAGES = 300  # different ones; the samples share them
SEEN_BY = (1.0, 0.6, 0.4)  # shares that the last scans saw, the latest first
STATES = np.array(["open", "confirmed", "relabelled", "dismissed", "flagged"])
VERDICTS = np.array(["", "confirm", "relabel", "dismiss", "flag"])
PRESENCE = np.array(["seen", "fixed", "regressed"])
Values = npt.NDArray[Any]


def copy(model: type[models.Model], columns: dict[str, Any]) -> None:
    """Append rows to a model's table; what is not given has the field's default.

    Args:
        model: Of the rows.
        columns: Column -> its values, or one value for every row.
    """
    rows = next(len(v) for v in columns.values() if not np.isscalar(v))
    fields = model._meta.concrete_fields
    given = {f.column: _default(f) for f in fields if not f.primary_key} | columns
    known = {name: value for name, value in given.items() if value is not None}
    table = pa.table(
        {n: pa.repeat(v, rows) if np.isscalar(v) else v for n, v in known.items()}
    )
    buffer = io.BytesIO()
    csv.write_csv(table, buffer, csv.WriteOptions(include_header=False))
    statement = (
        f"COPY {model._meta.db_table} ({', '.join(known)}) FROM STDIN (FORMAT csv)"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(buffer.getbuffer())


def _default(field: models.Field[Any, Any]) -> Any:
    """Return the default as CSV says it; None: NULL, or the database's own."""
    if getattr(field, "auto_now_add", False) or getattr(field, "auto_now", False):
        return timezone.now().isoformat()
    if isinstance(field, ArrayField):
        return "{}"
    value = field.get_default()
    return str(value) if isinstance(value, dict | list) else value


@dataclass
class World:
    """What the tables have in common; row i of `true` is finding and sample i + 1."""

    slug: str
    pairs: Values  # (P, 2) class indices, the most frequent first
    true: Values  # (N,) class indices
    predicted: Values
    state: Values  # (N,) index into STATES
    presence: Values  # (N,) index into PRESENCE
    p_true: Values
    confidence: Values
    classes: int
    rng: np.random.Generator

    @classmethod
    def make(cls, rows: int, slug: str) -> World:
        """Draw a world of so many open errors that are still seen."""
        rng = np.random.default_rng(7)
        n_pairs = max(rows // ROWS_PER_PAIR, 12)
        classes = 2 + int(np.sqrt(n_pairs * 1.4))
        ordered = np.array([(a, b) for a in range(classes) for b in range(classes)])
        ordered = ordered[ordered[:, 0] != ordered[:, 1]]
        pairs = rng.permutation(ordered)[:n_pairs]
        weights = 1 / np.arange(1, n_pairs + 1)
        sizes = np.maximum(1, (weights / weights.sum() * rows).astype(int))
        sizes[0] += rows - sizes.sum()
        waiting = np.repeat(np.arange(n_pairs), sizes)
        # Also: reviewed ones, fixed ones, and near misses.
        reviewed = rng.choice(waiting, rows * 3 // 10)
        fixed = rng.choice(waiting, rows // 20)
        pair = np.concatenate([waiting, reviewed, fixed])
        near = rng.integers(0, classes, rows // 20)
        true = np.concatenate([pairs[pair, 0], near])
        predicted = np.concatenate([pairs[pair, 1], near])
        state = np.zeros(len(true), int)
        presence = np.zeros(len(true), int)
        presence[:rows] = rng.choice([0, 2], rows, p=[0.98, 0.02])
        done = slice(rows, rows + len(reviewed))
        state[done] = rng.choice([1, 2, 3, 4], len(reviewed), p=[0.6, 0.25, 0.14, 0.01])
        presence[done] = rng.choice([0, 1], len(reviewed), p=[0.6, 0.4])
        presence[done.stop : done.stop + len(fixed)] = 1
        order = rng.permutation(len(true))
        true, predicted = true[order], predicted[order]
        p_true, confidence = _scores(rng, true == predicted)
        return cls(
            slug,
            pairs,
            true,
            predicted,
            state[order],
            presence[order],
            p_true,
            confidence,
            classes,
            rng,
        )

    def thumbnails(self) -> None:
        """Write real images; `SharedImages` gives each sample one of them."""
        for n in range(IMAGES):
            shape = (24, 32, 3)
            noise = self.rng.integers(0, 256, shape, dtype=np.uint8)
            for size, side in SIZES.items():
                image = Image.fromarray(noise).resize((side, side * 3 // 4), 3)
                path = settings.MEDIA_ROOT / shared_name(n, size)
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, "WEBP", quality=80, method=0)

    def samples(self) -> None:
        """Write a sample for each finding."""
        n = len(self.true)
        labels = ids_of(Label)
        ids = np.arange(1, n + 1)
        number = pc.utf8_lpad(pa.array(ids).cast(pa.string()), 8, "0")
        now = np.where(self.state == 2, self.predicted, self.true)
        copy(
            Sample,
            {
                "id": ids,
                "dataset_id": Dataset.objects.get().pk,
                "key": pc.binary_join_element_wise("aisle/", number, ".jpg", ""),
                "label_id": labels[now],
                "original_label_id": labels[self.true],
                "split": np.array(["test", "val", "train"])[
                    self.rng.choice(3, n, p=[0.7, 0.2, 0.1])
                ],
                "digest": digests(ids),
                "size": 50_000,
                "attributes": '{"camera": "north", "shelf": 4}',
            },
        )

    def findings(self) -> None:
        """Write the findings."""
        labels = ids_of(Label)
        ids = np.arange(1, len(self.true) + 1)
        copy(
            Finding,
            {
                "id": ids,
                "dataset_id": Dataset.objects.get().pk,
                "registered_model_id": RegisteredModel.objects.get().pk,
                "sample_id": ids,
                "true_label_id": labels[self.true],
                "predicted_label_id": labels[self.predicted],
                "kind": np.where(
                    self.true == self.predicted, "near_miss", "misclassified"
                ),
                "review_state": STATES[self.state],
                "presence": PRESENCE[self.presence],
                "priority": 1 - self.p_true,
                "confidence": self.confidence,
                "digest": digests(ids),
                "version": (self.state > 0).astype(int),
            },
        )

    def standings(self) -> None:
        """Count the findings of each pair."""
        code = self.true * self.classes + self.predicted
        found, place = np.unique(code, return_inverse=True)

        def count(rows: Values) -> Values:
            return np.bincount(place, weights=rows, minlength=len(found)).astype(int)

        labels = ids_of(Label)
        true, predicted = found // self.classes, found % self.classes
        present = self.presence != 1
        waiting = present & (self.state == 0)
        copy(
            Standing,
            {
                "dataset_id": Dataset.objects.get().pk,
                "registered_model_id": RegisteredModel.objects.get().pk,
                "true_label_id": labels[true],
                "predicted_label_id": labels[predicted],
                "kind": np.where(true == predicted, "near_miss", "misclassified"),
                "present": count(present),
                "waiting": count(waiting),
                "back": count(waiting & (self.presence == 2)),
                "reviewed": count(self.state > 0),
                "label_from": self.rng.uniform(0.75, 0.95, self.classes)[predicted],
            },
        )

    def sightings(self) -> None:
        """Write what the last scans saw, in the order in which scans write it."""
        labels = ids_of(Label)
        scans = ids_of(Scan)
        for back in reversed(range(len(SEEN_BY))):
            seen = (self.presence != 1) & (
                self.rng.random(len(self.true)) < SEEN_BY[back]
            )
            ids = np.flatnonzero(seen)
            others = (
                self.predicted[ids, None]
                + self.rng.integers(1, self.classes, (len(ids), 3))
            ) % self.classes
            top = np.column_stack([self.predicted[ids], self.true[ids], others])
            near = self.true[ids] == self.predicted[ids]
            top[near, 1] = (top[near, 0] + 1) % self.classes
            p_true, confidence = self.p_true[ids], self.confidence[ids]
            rest = np.maximum(0, 1 - confidence - p_true * ~near) / 4
            second = np.where(near, rest, p_true)
            copy_columns(
                "reviewapp_sighting",
                {
                    "finding_id": ids + 1,
                    "scan_id": np.full(len(ids), scans[-1 - back]),
                    "confidence": confidence,
                    "p_true": p_true,
                    "margin": confidence - second,
                    "loss": -np.log(p_true),
                    "top_labels": labels[top],
                    "top_probs": np.column_stack(
                        [confidence, second, rest, rest, rest]
                    ),
                },
            )

    def sequences(self) -> None:
        """Let new rows follow these."""
        with transaction.atomic(), connection.cursor() as cursor:
            for model in (Sample, Finding, Confusion, Review):
                table = model._meta.db_table
                cursor.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', 'id'),"
                    f" (SELECT max(id) FROM {table}))"
                )
            cursor.execute("SET session_replication_role = DEFAULT")


def _scores(rng: np.random.Generator, near: Values) -> tuple[Values, Values]:
    """Return p_true and the confidence of each, the larger one for a near miss both."""
    n = len(near)
    p_true = np.clip(rng.beta(0.6, 6, n), 1e-6, 0.48)
    p_true[near] = rng.uniform(0.34, 0.6, near.sum())
    confidence = p_true + (1 - 2 * p_true) * rng.beta(5, 1.5, n)
    return p_true, np.where(near, p_true, confidence)


def ids_of(model: type[models.Model]) -> Values:
    """Return every id, in order."""
    rows = model._default_manager.order_by("id").values_list("pk", flat=True)
    return np.array(list(rows))


def digests(ids: Values) -> pa.Array:
    return pa.array([hashlib.sha256(b"%d" % i).hexdigest() for i in ids.tolist()])


def shared_name(number: int, size: str) -> str:
    """Return the storage name of one of the images that samples share."""
    return thumbnail_name(f"{number:064x}", size)
