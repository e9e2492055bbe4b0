"""Whatever is sent to the review pages: an answer, never a failure of the server."""

from __future__ import annotations

import random
from urllib.parse import quote_from_bytes

import pytest
from django.urls import reverse

from reviewapp.models import Finding, Opinion, Review, Verdict
from tests.reviewing import decide

REQUESTS = 30  # at each address
FORM = "application/x-www-form-urlencoded"
HUGE = [
    "99999999999",
    str(2**31),
    str(2**63),
    "9" * 30,
    "9" * 5000,
    "-1",
    "0",
    "²",
    "٣",
]
RAW = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"x" * 5000,
    b"%",
    b"<b>",
    b"NaN",
]
WORDS = [
    *("inf", "-inf", "1e400", "0.5", "null", "[]", "{}", "on", "1", "2", "10", "100"),
    *("confirm", "relabel", "dismiss", "flag", "skip", "duplicate", "blur", "disputed"),
    *("label", "model", "near_miss", "newest", "random", "learned", "test", "cat", "?"),
]
FIELDS = [
    *("lane", "order", "true_label", "predicted_label", "registered_model", "split"),
    *("p_true_below", "key", "kind", "size", "after", "show", "alike", "beside"),
    *("count", "on", "again", "finding", "verdict", "new_label", "relabel_to"),
    *("reason", "causes", "note", "version", "line", "next", "progress", "holder"),
    *("all", "overlap", "share", "known", "remove", "team", "beacon", "page", "q"),
]
GETS = [
    *("review", "review-grid", "review-verdicts", "review-finding", "finding-list"),
    *("finding-detail", "team", "team-second"),
]
POSTS = [
    *("review-next", "review-grid-next", "review-grid-decide", "review-grid-undo"),
    *("review-undo", "review-release", "review-renew", "review-verdict-undo"),
    *("finding-decide", "finding-skip", "team-decide", "finding-known"),
    *("review-alike", "team-rules", "team-free"),
]
OF_ONE = {
    *("review-finding", "finding-detail", "finding-decide", "finding-skip"),
    *("team-decide", "finding-known", "review-alike"),
}


class Fuzz:
    """Random addresses and fields, most of them wrong, some right."""

    def __init__(self, world, seed: str) -> None:
        self.rng = random.Random(seed)
        ids = [finding.pk for finding in world.findings]
        ids += [label.pk for label in world.labels]
        ids += list(Review.objects.values_list("pk", flat=True))
        texts = [*HUGE, *WORDS, *map(str, ids), *(f"{pk}:0" for pk in ids)]
        self.ids = [*map(str, ids), *HUGE[:5], "0"]
        self.values = [*RAW, *(text.encode() for text in texts)]

    def query(self) -> str:
        pairs = (
            f"{self.rng.choice(FIELDS)}={quote_from_bytes(self.rng.choice(self.values))}"
            for _ in range(self.rng.randrange(9))
        )
        return "&".join(pairs)

    def address(self, name: str) -> str:
        if name not in OF_ONE:
            return f"{reverse(name, args=['animals'])}?{self.query()}"
        start, _, end = reverse(name, args=["animals", 7]).rpartition("7")
        return f"{start}{self.rng.choice(self.ids)}{end}?{self.query()}"


@pytest.fixture
def desk(world, rita, lena, client_of):
    """Somebody who leads a data set that has everything, and may get at it."""
    decide(finding=world.findings[0], by=rita, verdict=Verdict.FLAG)
    decide(finding=world.findings[1], by=rita, verdict=Verdict.CONFIRM)
    Opinion.objects.create(
        finding=world.findings[2], finding_version=0, reviewer=rita, verdict="confirm"
    )
    Finding.objects.filter(pk=world.findings[2].pk).update(review_state="disputed")
    world.add_findings(3)
    client = client_of(lena)
    client.raise_request_exception = True
    return client


@pytest.mark.parametrize("name", GETS)
def test_no_address_makes_a_page_fail(name, desk, world):
    fuzz = Fuzz(world, name)
    for _ in range(REQUESTS):
        address = fuzz.address(name)
        assert desk.get(address).status_code in (200, 302, 400, 404), address


@pytest.mark.parametrize("name", POSTS)
def test_no_form_makes_a_page_fail(name, desk, world):
    fuzz = Fuzz(world, name)
    for place in range(REQUESTS):
        address, sent = fuzz.address(name), fuzz.query()
        header = {"Hardmine-Desk": "1"} if place % 2 else {}
        kind = "multipart/form-data; boundary=x" if place % 10 == 9 else FORM
        got = desk.post(address, sent, content_type=kind, headers=header)
        assert got.status_code in (200, 204, 302, 400, 403, 404, 409), (address, sent)
