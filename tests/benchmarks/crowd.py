"""Ten reviewers at once: how fast, and whether every verdict arrives once."""

# ruff: noqa: T201
from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.benchmarks.review_pages import VERDICTS
from tests.benchmarks.review_serving import Client, Reviewer, cookies_of
from tests.benchmarks.world_of_findings import SLUG

PER_SECOND, P95_MS = 80.0, 200.0


@dataclass
class Member:
    """One reviewer of the crowd, and what was sent and answered."""

    name: str
    reviewer: Reviewer
    given: dict[str, int] = field(default_factory=dict)  # key -> finding
    refused: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    error: BaseException | None = None

    def work(self, until: float) -> None:
        draw = random.Random(self.name)
        try:
            while time.monotonic() < until:
                self._one(draw)
        except BaseException as error:  # noqa: BLE001 - for the thread that waits
            self.error = error

    def _one(self, draw: random.Random) -> None:
        verdict = draw.choice(VERDICTS)
        desk = self.reviewer.desks[0]
        if not desk.relabel_to and verdict == "relabel":
            verdict = "confirm"
        key, finding = str(uuid.uuid4()), desk.finding
        answer = self.reviewer.decide(verdict, key)
        self.seconds.append(answer.seconds)
        if answer.status == 200:
            self.given[key] = finding
        else:
            self.refused.append(f"{finding}: {answer.status} {answer.text[:300]}")
            self.reviewer.start()


def crowd(host: str, *, people: int, seconds: float) -> bool:
    """Let them work, print what came of it, and return whether it holds."""
    from reviewapp.models import Review

    names = [f"reviewer{n:02d}" for n in range(20, 20 + people)]
    members = [
        Member(name, Reviewer(Client(host, cookies_of(name)), SLUG)) for name in names
    ]
    for member in members:
        member.reviewer.start()
    last = Review.objects.order_by("-id").values_list("pk", flat=True)[0]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=m.work, args=(until,)) for m in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [member.error for member in members if member.error]
    if errors:
        raise errors[0]
    return report(members, last, seconds)


def report(members: Sequence[Member], last: int, seconds: float) -> bool:
    """Print what they did and what the database says of it."""
    took = [s for member in members for s in member.seconds]
    given = Counter(f for member in members for f in member.given.values())
    shown = Counter(f for member in members for f in set(member.reviewer.shown))
    rate = len(given) / seconds
    p50, p95 = (float(np.percentile(took, q)) * 1000 for q in (50, 95))
    twice = sum(n > 1 for n in shown.values())
    lost, extra = compare(members, last)
    refused = [text for member in members for text in member.refused]
    holds = rate >= PER_SECOND and p95 <= P95_MS
    print(
        f"{len(members)} reviewers, {seconds:.0f} s: {rate:.0f} verdicts/s (at least "
        f"{PER_SECOND:.0f}), p50 {p50:.0f} ms, p95 {p95:.0f} ms (at most {P95_MS:.0f})"
        f"{'' if holds else '   MISSED'}"
    )
    right = not (twice or lost or extra or refused)
    print(
        f"    {given.total():,} verdicts acknowledged; {twice} findings handed out twice, "
        f"{lost} verdicts lost, {extra} that nobody sent, {len(refused)} refused"
        f"{'' if right else '   WRONG'}"
    )
    for text in refused[:3]:
        print(f"    {text}")
    return holds and right


def compare(members: Sequence[Member], last: int) -> tuple[int, int]:
    """Return how many acknowledged verdicts are not stored, and stored ones not sent."""
    from reviewapp.models import Review

    names = [member.name for member in members]
    rows = Review.objects.filter(pk__gt=last, reviewer__username__in=names)
    stored = Counter(rows.values_list("reviewer__username", "finding_id"))
    sent = Counter((m.name, f) for m in members for f in m.given.values())
    return (sent - stored).total(), (stored - sent).total()
