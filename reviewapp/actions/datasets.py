"""Bringing data sets in, and bringing them up to date."""

from __future__ import annotations

import json
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django.utils.text import slugify
from psycopg.types.json import Jsonb

from mining.exceptions import MiningError
from mining.sources import open_source, resolve_under_roots, sha256
from mining.types import SourceEntry
from reviewapp.copying import copy_rows
from reviewapp.exceptions import AlreadyRunning, Refused, plain_message
from reviewapp.models import Dataset, Membership, Registration, Role, Scan
from reviewapp.models.events import record
from reviewapp.models.leases import a_lease_ago

if TYPE_CHECKING:
    from reviewapp.models import User

READERS = 4  # threads that read and hash; they wait for the disk, not the CPU
BATCH = 1000
BATCH_SECONDS = 5.0
logger = logging.getLogger(__name__)

RESERVED_SLUGS = {"new"}  # a page's address

Progress = Callable[[Registration], None]


def register_dataset(
    *, name: str, root: str, manifest: str = "", by: User
) -> Registration:
    """Create a data set and queue its first registration; `by` becomes its admin.

    Raises:
        Refused: The name is taken or empty, or `by` may not register data sets.
        OutsideRoot: The root is not under a configured root.
    """
    if not by.may_register_datasets:
        raise Refused("Only staff may register a data set. Ask an administrator.")
    name = name.strip()
    slug = slugify(name)[:100].strip("-")
    if not slug or slug in RESERVED_SLUGS or len(name) > 100:
        raise Refused(
            "Give the data set a name with a letter or digit, other than new, of at "
            "most 100 characters."
        )
    url = resolve_under_roots(root, settings.DATA_ROOTS, setting="HARDMINE_DATA_ROOTS")
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(
                name=name,
                slug=slug,
                root=url,
                manifest=manifest.strip(),
                created_by=by,
            )
            Membership.objects.create(user=by, dataset=dataset, role=Role.ADMIN)
            record("dataset registered", dataset, dataset=dataset, actor=by, root=url)
            return Registration.objects.create(dataset=dataset, requested_by=by)
    except IntegrityError:
        raise Refused(
            f"There is already a data set named {name!r}, or with the same address. "
            "Choose another name, or register that one again."
        ) from None


def register_again(*, dataset: Dataset, by: User | None) -> Registration:
    """Queue another reading of the data set's source.

    Raises:
        AlreadyRunning: A registration or a scan of the data set is going on.
    """
    with transaction.atomic():
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        if scan := Scan.objects.for_dataset(dataset).active().first():
            raise AlreadyRunning(
                f"Scan {scan.pk} of {dataset} is still {scan.state}. Wait for it or "
                "cancel it, then register again."
            )
        try:
            with transaction.atomic():
                registration = Registration.objects.create(
                    dataset=dataset, requested_by=by
                )
        except IntegrityError:
            raise AlreadyRunning(f"{dataset} is being registered already.") from None
        record("registration queued", registration, dataset=dataset, actor=by)
        return registration


def requeue_silent_registrations(*, dataset: Dataset | None = None) -> list[int]:
    """Give registrations of dead workers back and return the ids to enqueue again.

    Those that wait longer than a lease are among them: their message may be lost.
    """
    lost = a_lease_ago()
    some = dataset.registrations.all() if dataset else Registration.objects.all()
    some.filter(state=Registration.State.RUNNING, heartbeat_at__lt=lost).update(
        state=Registration.State.QUEUED
    )
    waiting = some.filter(state=Registration.State.QUEUED, created_at__lt=lost)
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def run_registration(
    *, registration: Registration, on_progress: Progress | None = None
) -> Registration:
    """Read the source, then bring the samples up to date in one transaction.

    A source that cannot be read leaves the data set as it was and the registration
    failed, with the reason. Does nothing unless the registration is queued.
    """
    claimed = Registration.objects.filter(
        pk=registration.pk, state=Registration.State.QUEUED
    ).update(state=Registration.State.RUNNING, heartbeat_at=timezone.now())
    registration.refresh_from_db()
    if not claimed:
        return registration
    try:
        with _staging_table():
            _stage(registration, on_progress)
            with transaction.atomic():
                _merge(registration)
    except Exception as error:
        logger.exception("%s failed", registration)
        registration.state = Registration.State.FAILED
        registration.message = (
            f"{plain_message(error)} {registration.dataset} was left as it was."
        )
        registration.finished_at = timezone.now()
        registration.save(update_fields=["state", "message", "finished_at"])
    return registration


@contextmanager
def _staging_table() -> Iterator[None]:
    """Give this connection an empty table for what the source says."""
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS staged_sample")
        cursor.execute(
            "CREATE TEMP TABLE staged_sample (key text, label text, "
            "split text, digest text, size bigint, attributes jsonb)"
        )
        try:
            yield
        finally:
            cursor.execute("DROP TABLE staged_sample")


def _stage(registration: Registration, on_progress: Progress | None) -> None:
    dataset = registration.dataset
    source = open_source(dataset.root, dataset.manifest or None)
    columns = ("key", "label", "split", "digest", "size", "attributes")
    types = ("text", "text", "text", "text", "int8", "jsonb")
    rows = _read_ahead(source.entries())
    while batch := _next_batch(rows):
        registration.done += copy_rows("staged_sample", columns, types, batch)
        registration.unreadable += sum(not row[3] for row in batch)
        registration.heartbeat_at = timezone.now()
        registration.save(update_fields=["done", "unreadable", "heartbeat_at"])
        if on_progress:
            on_progress(registration)


def _next_batch(rows: Iterator[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Return the next rows, few when they come slowly, so that the lease is renewed."""
    deadline = time.monotonic() + BATCH_SECONDS
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH or time.monotonic() > deadline:
            break
    return batch


def _read_ahead(entries: Iterator[SourceEntry]) -> Iterator[tuple[object, ...]]:
    """Hash files in a few threads, in order, never far ahead of the reader."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[tuple[object, ...]]] = deque()
        for entry in entries:
            waiting.append(pool.submit(_read_entry, entry))
            if len(waiting) > 4 * READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _read_entry(entry: SourceEntry) -> tuple[object, ...]:
    """Return the staged row; a file that cannot be read has no digest.

    Raises:
        ConnectionError: The storage cannot be reached; this says nothing of a file.
        TimeoutError: Likewise.
    """
    try:
        digest, size = sha256(entry.url)
    except (ConnectionError, TimeoutError):
        raise
    except (OSError, MiningError):
        digest, size = "", 0
    attributes = Jsonb(entry.attributes, dumps=_dump_json)
    return (entry.key, entry.label, entry.split, digest, size, attributes)


def _dump_json(value: object) -> str:
    """Return JSON without NUL characters, which PostgreSQL cannot hold."""
    text = json.dumps(value, default=str)
    return re.sub(r"(?<!\\)((?:\\\\)*)\\u0000", r"\1", text)


def _merge(registration: Registration) -> None:
    """Bring labels, samples and findings in line with the staged rows."""
    dataset = registration.dataset
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT label FROM staged_sample")
        names = sorted((name for (name,) in cursor.fetchall()), key=natural_order)
        cursor.execute(
            "UPDATE reviewapp_label SET index = NULL WHERE dataset_id = %s",
            [dataset.pk],
        )
        cursor.executemany(
            "INSERT INTO reviewapp_label (dataset_id, name, index) VALUES (%s, %s, %s) "
            "ON CONFLICT (dataset_id, name) DO UPDATE SET index = excluded.index",
            [(dataset.pk, name, index) for index, name in enumerate(names)],
        )
        cursor.execute(COUNT_CHANGES, {"dataset": dataset.pk})
        counts = cursor.fetchone()
        for statement in (MERGE_SAMPLES, REMOVE_SAMPLES, SUPERSEDE_FINDINGS):
            cursor.execute(statement, {"dataset": dataset.pk, "now": timezone.now()})
    registration.total, registration.added, registration.changed = counts[:3]
    registration.relabelled, registration.removed = counts[3:]
    if len(names) == 1:
        registration.message = (
            f"Only one class, {names[0]}: there is nothing to confuse it with. Check "
            "the folders' names or the label column."
        )
    registration.state = Registration.State.DONE
    registration.finished_at = timezone.now()
    registration.save()
    record(
        "registration done",
        registration,
        dataset=dataset,
        actor=registration.requested_by,
        total=registration.total,
        added=registration.added,
        changed=registration.changed,
        relabelled=registration.relabelled,
        removed=registration.removed,
        unreadable=registration.unreadable,
    )


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts "class 10" after "class 9"."""
    parts = re.split(r"(\d+)", name.casefold())
    return [
        (0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part)
        for part in parts
        if part
    ] + [(2, 0, name)]


COUNT_CHANGES = """
SELECT count(*),
       count(*) FILTER (WHERE s.id IS NULL OR s.removed_at IS NOT NULL),
       count(*) FILTER (WHERE s.removed_at IS NULL AND s.digest <> t.digest),
       count(*) FILTER (WHERE s.removed_at IS NULL AND o.name <> t.label),
       (SELECT count(*) FROM reviewapp_sample r
         WHERE r.dataset_id = %(dataset)s AND r.removed_at IS NULL
           AND NOT EXISTS (SELECT FROM staged_sample g WHERE g.key = r.key))
  FROM staged_sample t
  LEFT JOIN reviewapp_sample s ON s.dataset_id = %(dataset)s AND s.key = t.key
  LEFT JOIN reviewapp_label o ON o.id = s.original_label_id
"""

# A reviewer's correction stands until the source itself gives another label.
MERGE_SAMPLES = """
INSERT INTO reviewapp_sample AS s
       (dataset_id, key, label_id, original_label_id, split, digest, size, attributes)
SELECT %(dataset)s, t.key, l.id, l.id, t.split, t.digest, t.size, t.attributes
  FROM staged_sample t
  JOIN reviewapp_label l ON l.dataset_id = %(dataset)s AND l.name = t.label
 ORDER BY t.split, t.key COLLATE "C"
ON CONFLICT (dataset_id, key) DO UPDATE
   SET split = excluded.split, digest = excluded.digest, size = excluded.size,
       attributes = excluded.attributes, removed_at = NULL,
       label_id = CASE WHEN s.original_label_id = excluded.original_label_id
                       THEN s.label_id ELSE excluded.label_id END,
       original_label_id = excluded.original_label_id
 WHERE (s.split, s.digest, s.size, s.attributes, s.original_label_id)
       IS DISTINCT FROM
       (excluded.split, excluded.digest, excluded.size, excluded.attributes,
        excluded.original_label_id)
    OR s.removed_at IS NOT NULL
"""

REMOVE_SAMPLES = """
UPDATE reviewapp_sample s SET removed_at = %(now)s
 WHERE s.dataset_id = %(dataset)s AND s.removed_at IS NULL
   AND NOT EXISTS (SELECT FROM staged_sample t WHERE t.key = s.key)
"""

# A finding whose label or image is no longer what was seen waits for the next scan.
SUPERSEDE_FINDINGS = """
UPDATE reviewapp_finding f SET presence = 'superseded', version = f.version + 1
  FROM reviewapp_sample s
 WHERE f.dataset_id = %(dataset)s AND s.id = f.sample_id
   AND f.presence IN ('seen', 'regressed')
   AND (s.label_id <> f.true_label_id OR s.digest <> f.digest
        OR s.removed_at IS NOT NULL)
   AND f.review_state <> 'relabelled'
"""
