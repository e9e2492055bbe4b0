"""The grid's statements: from an index, a bounded number of rows, few of them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.urls import reverse

from reviewapp.lookalikes import waiting_like
from reviewapp.models import Finding, Lookalike
from tests import factories
from tests.reviewapp.test_plans import crowd, reads
from tests.reviewing import queue_of

__all__ = ["crowd", "reads"]

# In one process: the crowd takes seconds to make.
pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("crowd")]
SCRIPT = {"HTTP_HARDMINE_DESK": "1"}


@pytest.fixture
def client(crowd, client_of):
    factories.MembershipFactory(user=crowd.by, dataset=crowd.dataset)
    return client_of(crowd.by)


def url(name: str, query: str = "") -> str:
    return reverse(name, args=["crowd"]) + query


@pytest.mark.parametrize("lane", ["", "label", "near_miss"])
def test_a_hundred_are_taken_shown_decided_and_undone(crowd, client, reads, lane):
    query = f"?lane={lane}&size=100"
    taken = client.post(url("review-grid-next", query), {"size": "100"}, **SCRIPT)
    assert taken.json()["html"].count('class="tile"') == 100
    # A hundred of the most valuable are chosen among as many of each large confusion.
    assert not [problem for problem in reads.problems if "reads all" in problem]
    before = reads.queries
    page = client.get(url("review-grid", query))
    assert reads.queries - before <= 13
    tiles = page.context["tiles"]
    assert len(tiles) == 100
    before = reads.queries
    done = client.post(
        url("review-grid-decide", query),
        {
            "finding": [f"{t.finding.pk}:{t.finding.version}" for t in tiles],
            "verdict": "dismiss",
            "key": uuid4(),
        },
        **SCRIPT,
    ).json()
    assert len(done["decided"]) == 100
    assert reads.queries - before <= 24
    undone = client.post(url("review-grid-undo", query), {}, **SCRIPT).json()
    assert undone["said"] == "100 undone. Decide again."
    # What is left is counted up to a thousand.
    reads.problems[:] = [problem for problem in reads.problems if counts_all(problem)]


def counts_all(problem: str) -> bool:
    return "reads all" in problem or "LIMIT" not in problem


def test_the_list_of_ones_verdicts(crowd, client, reads):
    page = client.get(url("review-verdicts"))
    assert len(page.context["entries"]) == 50
    assert reads.queries <= 11


def test_what_looks_like_a_finding(crowd, reads):
    queue = queue_of(crowd.dataset)
    first, *others = Finding.objects.filter(
        pk__in=queue.findings.waiting().hardest_first()[400:420].values("pk")
    ).select_related("sample", "dataset")
    Lookalike.objects.bulk_create(
        Lookalike(
            dataset=crowd.dataset, sample=first.sample, other=f.sample, distance=1
        )
        for f in others
    )
    reads.problems.clear()  # what was to be set up is the test's own
    assert len(waiting_like(first, crowd.by)) == 12
