"""One request after another: the desk and every page that could be slow."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tests.benchmarks.review_serving import YARDSTICK, Answer, Client, Reviewer
from tests.benchmarks.world_of_findings import SLUG

VERDICTS = ("confirm",) * 7 + ("dismiss",) * 2 + ("relabel",)
WARM, PATIENCE_S = 3, 12.0
DEEP = 1000  # the page that keyset paging is shown with


@dataclass
class Figure:
    """What was measured of one request, beside the yardstick's times."""

    name: str
    p50: float | None  # targets, ms
    p95: float | None
    seconds: list[float] = field(default_factory=list)
    yardstick: list[float] = field(default_factory=list)
    refused: int = 0  # a status other than 200

    def at(self, q: float) -> float:
        return float(np.percentile(self.seconds, q)) * 1000

    @property
    def holds(self) -> bool:
        return (
            not self.refused
            and (self.p50 is None or self.at(50) <= self.p50)
            and (self.p95 is None or self.at(95) <= self.p95)
        )

    def __str__(self) -> str:
        if self.refused:
            return f"{self.name:44} ANSWERED {self.refused}"
        target = "/".join(
            "-" if t is None else f"{t:.0f}" for t in (self.p50, self.p95)
        )
        beside = float(np.percentile(self.yardstick or [0], 50)) * 1000
        return (
            f"{self.name:44} {self.at(50):8.1f} {self.at(95):8.1f} {target:>8}"
            f" {beside:8.1f} {'' if self.holds else '  MISSED'}"
        )


HEADING = f"{'ms':44} {'p50':>8} {'p95':>8} {'target':>8} {'yardst.':>8}"


def measure(
    figure: Figure, ask: Callable[[], Answer], beside: Client, n: int
) -> Figure:
    """Ask n times, alternating with the yardstick; a slow page is asked less often."""
    for _ in range(WARM):
        ask()
    started = time.monotonic()
    while len(figure.seconds) < n:
        answer = ask()
        if answer.status != 200:
            figure.refused = answer.status
            break
        figure.seconds.append(answer.seconds)
        figure.yardstick.append(beside.get(YARDSTICK).seconds)
        if time.monotonic() - started > PATIENCE_S and len(figure.seconds) >= 5:
            break
    return figure


def submits(reviewer: Reviewer, queue: str, n: int) -> Figure:
    """Give n verdicts, and be given the next finding by each answer."""
    draw = random.Random(1)
    reviewer.queue = queue
    reviewer.start()

    def decide() -> Answer:
        verdict = draw.choice(VERDICTS)
        if not reviewer.desks[0].relabel_to and verdict == "relabel":
            verdict = "confirm"
        return reviewer.decide(verdict, str(uuid.uuid4()))

    name = f"submit and next, {queue or 'every error'}"
    return measure(Figure(name, 20, 50), decide, reviewer.client, n)


def lists() -> Iterator[tuple[str, str]]:
    """Yield the name and the query of the list of findings under each filter."""
    from reviewapp.models import Confusion

    lines = Confusion.objects.most_frequent_first().values_list(
        "true_label", "predicted_label", "registered_model"
    )
    large, small = lines[0], lines[lines.count() // 2]
    yield "all present", ""
    yield "all present, as a table", "view=table"
    for show in ("waiting", "reviewed", "fixed", "everything"):
        yield show, f"show={show}"
    yield "true label", f"true_label={large[0]}"
    yield "predicted label", f"predicted_label={large[1]}"
    yield "largest confusion", f"true_label={large[0]}&predicted_label={large[1]}"
    yield "small confusion", f"true_label={small[0]}&predicted_label={small[1]}"
    yield "model", f"registered_model={large[2]}"
    for kind in ("misclassified", "near_miss"):
        yield f"kind {kind}", f"kind={kind}"
    for state in ("open", "confirmed", "dismissed", "flagged", "disputed"):
        yield f"review {state}", f"review_state={state}"
    for presence in ("seen", "fixed", "regressed", "superseded"):
        yield f"presence {presence}", f"presence={presence}"
    yield "split train", "split=train"
    yield "cause pose", "cause=pose"
    yield "cause of nothing", "cause=blur"
    yield "p(true) below 0.001", "p_true_below=0.001"
    yield "file name contains 00012", "key=00012"
    yield "one file name", "key=aisle/00004711.jpg"
    yield "no such file name", "key=zebra"
    yield (
        "label, split and p(true)",
        f"true_label={small[0]}&split=val&p_true_below=0.1",
    )


def deep_page(show: str) -> str:
    """Return the query of page 1,000 of the list (or of its last third)."""
    from reviewapp.models import Dataset, Finding
    from reviewapp.pagination import keyset_page
    from reviewapp.views.findings import PAGE_SIZE, SHOWN

    findings = SHOWN[show][1](Finding.objects.for_dataset(Dataset.objects.get()))
    size = min(PAGE_SIZE * (DEEP - 1), findings.count() * 2 // 3)
    page = keyset_page(findings, by=("priority", "id"), after=None, size=size)
    return f"show={show}&after={page.next}"


def pages() -> Iterator[tuple[Figure, str]]:
    """Yield every page with its target and address."""
    from reviewapp.models import Confusion

    base = f"/datasets/{SLUG}"
    for name, query in lists():
        yield Figure(f"findings: {name}", None, 60), f"{base}/findings/?{query}"
    for show in ("present", "waiting"):
        figure = Figure(f"findings: {show}, page {DEEP:,}", None, 60)
        yield figure, f"{base}/findings/?{deep_page(show)}"
    yield Figure("confusions", None, 60), f"{base}/confusions/"
    line = Confusion.objects.most_frequent_first()[0]
    pair = f"true_label={line.true_label_id}&predicted_label={line.predicted_label_id}"
    yield Figure("grid of 100", None, 100), f"{base}/review/grid/?{pair}&size=100"
    # No target of their own: nobody goes through them by the hundred.
    yield Figure("history", None, None), f"{base}/history/"
    yield Figure("one confusion's history", None, None), f"{base}/history/{line.pk}/"
    yield Figure("review queue", None, None), f"{base}/review/"
    yield Figure("one finding", None, None), f"{base}/findings/4711/"
    yield Figure("overview", None, None), f"{base}/"


def grid_ready(client: Client, query: str) -> None:
    """Take 100 findings of a queue into the grid, so that the page shows them."""
    fields = dict(part.split("=") for part in query.split("&"))
    client.post(f"/datasets/{SLUG}/review/grid/next/", {**fields, "size": "100"})
