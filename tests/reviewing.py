"""Verdicts and queues in tests, without the words that carry them."""

from __future__ import annotations

from typing import Any

from reviewapp.actions import reviews
from reviewapp.actions.reviews import Decision
from reviewapp.models import Dataset, Finding, Review, User, Verdict
from reviewapp.queues import Queue, read_queue


def decide(
    *,
    finding: Finding,
    by: User,
    verdict: Verdict,
    version: int = 0,
    **fields: Any,
) -> Review:
    """Record a verdict with the fields of a `Decision`."""
    decision = Decision(verdict, version, **fields)
    return reviews.decide(finding=finding, by=by, decision=decision)


def queue_of(dataset: Dataset, **fields: str) -> Queue:
    """Return the queue that these fields name."""
    return read_queue(dataset, fields)
