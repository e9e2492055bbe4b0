"""The plans of the hot queries: from an index, a bounded number of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction

from reviewapp.actions.reviews import (
    claim,
    forget_skips,
    last_reviews,
    release,
    renew,
    undo,
)
from reviewapp.actions.standings import fold_standings
from reviewapp.filters import FindingFilter
from reviewapp.models import (
    Dataset,
    Finding,
    Label,
    RegisteredModel,
    Review,
    Standing,
    User,
    Verdict,
)
from reviewapp.pagination import keyset_page
from tests import factories
from tests.reviewing import decide, queue_of

# In one process: the crowd takes seconds to make.
pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("crowd")]

LABELS, ROWS = 12, 20_000
BIG = {
    "reviewapp_finding",
    "reviewapp_sighting",
    "reviewapp_review",
    "reviewapp_sample",
}
# Rows that one plan may read of a big table, of 20,000 findings.
BOUND = 2_000

# Confusions of all sizes, the first the largest; one in five is settled, one in a hundred
# back, one in ten a near miss.
FILL = """
INSERT INTO reviewapp_sample (dataset_id, key, label_id, original_label_id, split, digest,
                              size, attributes)
SELECT %(dataset)s, 'test/' || lpad(i::text, 8, '0'), l, l, 'test', repeat('0', 64), 1, '{}'
  FROM (SELECT i, %(first)s + (power(random(), 2) * %(labels)s)::int %% %(labels)s AS l
          FROM generate_series(1, %(rows)s) i) s;
INSERT INTO reviewapp_finding
       (dataset_id, registered_model_id, sample_id, true_label_id, predicted_label_id, kind,
        review_state, presence, priority, confidence, digest, version, reopened_because,
        created_at)
SELECT %(dataset)s, %(model)s, id, label_id, p,
       CASE WHEN p = label_id THEN 'near_miss' ELSE 'misclassified' END,
       CASE WHEN id %% 5 > 0 THEN 'open' WHEN id %% 500 = 0 THEN 'disputed'
            WHEN id %% 10 = 0 THEN 'confirmed' ELSE 'dismissed' END,
       CASE WHEN id %% 100 = 1 THEN 'regressed' WHEN id %% 50 = 2 THEN 'fixed'
            ELSE 'seen' END,
       random(), random(), repeat('0', 64), 0, '', now()
  FROM (SELECT *, CASE WHEN id %% 10 = 3 THEN label_id ELSE %(first)s
                  + (label_id - %(first)s + 1 + (power(random(), 3) * 10)::int)
                  %% %(labels)s END AS p
          FROM reviewapp_sample WHERE dataset_id = %(dataset)s) s;
INSERT INTO reviewapp_review
       (dataset_id, finding_id, finding_version, reviewer_id, verdict, label_before_id, state_before,
        causes, superseded, reason, note, created_at)
SELECT dataset_id, id, 0, CASE WHEN id %% 3 = 0 THEN %(by)s ELSE %(other)s END,
       CASE review_state WHEN 'confirmed' THEN 'confirm' ELSE 'dismiss' END,
       true_label_id, 'open',
       CASE WHEN id %% 100 = 0 THEN '{blur}'::varchar[] ELSE '{}' END, '[]', '', '', now()
  FROM reviewapp_finding WHERE dataset_id = %(dataset)s AND review_state <> 'open';
INSERT INTO reviewapp_claim (finding_id, reviewer_id, expires_at)
SELECT id, %(other)s, now() + interval '1 hour' FROM reviewapp_finding
 WHERE dataset_id = %(dataset)s AND review_state = 'open' AND priority > 0.998;
INSERT INTO reviewapp_skip (finding_id, reviewer_id, created_at)
SELECT id, %(by)s, now() FROM reviewapp_finding
 WHERE dataset_id = %(dataset)s AND review_state = 'open'
   AND priority BETWEEN 0.996 AND 0.998;
"""


@dataclass
class Crowd:
    """A data set with 20,000 findings, and somebody who reviews them."""

    dataset: Dataset
    labels: list[Label]
    model: RegisteredModel
    by: User


@pytest.fixture(scope="module")
def crowd(django_db_setup: None, django_db_blocker: Any) -> Iterator[Crowd]:
    with django_db_blocker.unblock(), transaction.atomic():
        dataset = factories.DatasetFactory(name="Crowd", slug="crowd")
        labels = [factories.LabelFactory(dataset=dataset) for _ in range(LABELS)]
        model = factories.RegisteredModelFactory(dataset=dataset)
        by, other = factories.UserFactory(), factories.UserFactory()
        values = {
            "dataset": dataset.pk,
            "model": model.pk,
            "first": labels[0].pk,
            "labels": LABELS,
            "rows": ROWS,
            "by": by.pk,
            "other": other.pk,
        }
        with connection.cursor() as cursor:
            cursor.execute("SELECT setseed(0.5)")
            for statement in FILL.split(";\n")[:-1]:
                cursor.execute(statement, values)
            fold_standings()
            Standing.objects.update(label_from=0.7)
            # Of every table: what other tests left in one decides its plans otherwise.
            cursor.execute("ANALYZE")
        # Now, once: what is left to the end of the transaction every test checks anew.
        connection.check_constraints()
        yield Crowd(dataset, labels, model, by)
        transaction.set_rollback(True)


@dataclass
class Reads:
    """What the plans of some statements read."""

    problems: list[str] = field(default_factory=list)
    queries: int = 0

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: str,
        params: Any,
        many: bool,
        context: Any,
    ) -> Any:
        """Explain a statement, then run it."""
        if sql.lstrip().startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")):
            self.queries += 1
            with connection.connection.cursor() as cursor:
                cursor.execute("SAVEPOINT explained")
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
                [[[found]]] = cursor.fetchall()
                cursor.execute("ROLLBACK TO explained")
            self._look(found["Plan"], sql)
        return execute(sql, params, many, context)

    def _look(self, node: dict[str, Any], sql: str) -> None:
        table, loops = node.get("Relation Name"), node["Actual Loops"]
        if table in BIG and node["Node Type"] == "Seq Scan":
            self.problems.append(f"reads all of {table}: {sql}")
        removed = node.get("Rows Removed by Filter", 0) * loops
        rows = node["Actual Rows"] * loops + removed
        if (table in BIG or node["Node Type"].startswith("Bitmap")) and rows > BOUND:
            self.problems.append(f"reads {rows:.0f} rows of {table}: {sql}")
        for child in node.get("Plans", ()):
            self._look(child, sql)


@pytest.fixture
def reads() -> Iterator[Reads]:
    found = Reads()
    with connection.execute_wrapper(found):
        yield found
    assert found.problems == []


@pytest.fixture
def no_bitmaps(crowd: Crowd) -> Iterator[None]:
    """Leave out plans that put whole parts of indexes together.

    Of 20,000 rows it may be cheapest to list all near misses by one index and those that
    are back by another; of a million it is not.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_bitmapscan = off")
        yield
        cursor.execute("SET LOCAL enable_bitmapscan = on")


ORDERS = ["", "hardest", "newest", "doubted", "surest", "least_sure", "random", "back"]


@pytest.mark.usefixtures("no_bitmaps")
@pytest.mark.parametrize("lane", ["", "label", "model", "near_miss"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_next_of_each_order_and_lane(crowd, reads, order, lane):
    queue = queue_of(crowd.dataset, order=order, lane=lane)
    assert len(claim(queue=queue, by=crowd.by, limit=5)) == 5
    assert len(claim(queue=queue, by=crowd.by, limit=6)) == 6
    # each time one more where the models' scans say which order it is
    assert reads.queries <= (14 if queue.order == "doubted" else 12)


@pytest.mark.parametrize("order", ORDERS)
def test_the_next_of_one_confusion(crowd, reads, order):
    fields = {
        "true_label": str(crowd.labels[0].pk),
        "predicted_label": str(crowd.labels[1].pk),
    }
    queue = queue_of(crowd.dataset, order=order, **fields)
    assert len(claim(queue=queue, by=crowd.by, limit=5)) == 5


def test_a_verdict_and_the_next_finding(crowd, reads):
    queue = queue_of(crowd.dataset)
    held = claim(queue=queue, by=crowd.by, limit=5)
    before = reads.queries
    # lock, read, key, review, finding, ledger, claim; changes that wait, what is held,
    # what is next, its claim, its names
    decide(finding=held[0], by=crowd.by, verdict=Verdict.CONFIRM, key=uuid4())
    assert len(claim(queue=queue, by=crowd.by, limit=5)) == 5
    first = reads.queries - before
    before = reads.queries
    decide(finding=held[1], by=crowd.by, verdict=Verdict.DISMISS, key=uuid4())
    assert len(claim(queue=queue, by=crowd.by, limit=5)) == 5
    assert reads.queries - before == 12 <= first


def test_taking_a_verdict_back(crowd, reads):
    review = Review.objects.by(crowd.by).standing().newest_first().first()
    undo(review=review, by=crowd.by)


def test_what_a_reviewer_holds_skipped_and_said(crowd, reads):
    queue = queue_of(crowd.dataset)
    claim(queue=queue, by=crowd.by, limit=5)
    assert renew(dataset=crowd.dataset, by=crowd.by) == 5
    assert release(dataset=crowd.dataset, by=crowd.by) == 5
    assert forget_skips(queue=queue, by=crowd.by) > 5
    assert len(last_reviews(dataset=crowd.dataset, by=crowd.by)) == 50
    assert queue.left_for(crowd.by, 100_000) > 10_000


def listed(crowd: Crowd, show: str = "all", **data: str) -> list[Finding]:
    """Return a page of the findings list and a later one."""
    rows = getattr(Finding.objects.for_dataset(crowd.dataset), show)()
    found = FindingFilter(data, queryset=rows, dataset=crowd.dataset).qs.with_names()
    parts = found.waiting().parts()[::2] if show == "waiting" else found.parts()
    page: Any = None
    for _ in range(2):
        page = keyset_page(
            found, by=("priority", "id"), after=page and page.next, size=60, parts=parts
        )
    return page.rows


@pytest.mark.parametrize(
    ("show", "data"),
    [
        ("all", {}),
        ("waiting", {}),
        ("present", {}),
        ("waiting", {"true_label": "pair", "predicted_label": "pair"}),
        ("all", {"true_label": "pair", "predicted_label": "pair"}),
        ("all", {"true_label": "pair"}),
        ("waiting", {"kind": "near_miss"}),
        ("all", {"review_state": "confirmed"}),
        ("all", {"presence": "fixed"}),
        ("all", {"split": "test"}),
        ("all", {"p_true_below": "0.4"}),
        ("all", {"registered_model": "model"}),
    ],
)
def test_a_page_of_the_list_and_the_next(crowd, reads, show, data):
    pair = dict(zip(("true_label", "predicted_label"), crowd.labels, strict=False))
    values = {
        name: {
            "pair": str(pair.get(name) and pair[name].pk),
            "model": str(crowd.model.pk),
        }.get(value, value)
        for name, value in data.items()
    }
    assert len(listed(crowd, show, **values)) > 10


def test_a_deep_page_costs_what_the_first_costs(crowd, reads):
    rows = Finding.objects.for_dataset(crowd.dataset).with_names()
    deep = rows.waiting().misclassified().hardest_first()[9_000]
    reads.problems.clear()  # finding the place is the test's own
    token = keyset_page(
        rows.filter(pk__gte=deep.pk), by=("priority", "id"), after=None, size=1
    )
    assert token.rows
    reads.problems.clear()
    page = keyset_page(
        rows, by=("priority", "id"), after=token.next, size=60, parts=rows.parts()
    )
    assert len(page.rows) == 60


def test_the_standings_of_a_page(crowd, reads):
    rows = Standing.objects.for_dataset(crowd.dataset).filter(kind="misclassified")
    assert len(rows.most_frequent_first()[:50]) == 50
