"""A line's own page: its proof, its value, its plan, and what became of its findings."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.ledger import Fates, fates_of
from reviewapp.models import Confusion, ConfusionEvent, Finding, Sighting, User, Verdict
from reviewapp.proofs import proof_of
from tests import factories
from tests.conftest import World
from tests.reviewing import decide

ClientOf = Callable[[User], Client]
pytestmark = pytest.mark.usefixtures("clean_cache")
URL = "/datasets/animals/history/"
PROVED = {
    "says": "fixed",
    "why": "proved",
    "scan": 9,
    "baseline": 5,
    "samples": 2451,
    "b": 19,
    "c": 1,
    "p": 0.0000400543,
    "p_corrected": 0.0002403,
    "family": 6,
    "count": 5,
    "support": 300,
    "baseline_count": 23,
    "baseline_support": 310,
}


@pytest.fixture
def line(world: World) -> Confusion:
    return Confusion.objects.get()


@pytest.fixture
def address(line: Confusion) -> str:
    return f"{URL}{line.pk}/"


def test_the_proof_says_its_numbers() -> None:
    proof = proof_of(PROVED)
    assert proof.text == (
        "Fixed: such a fall is hardly luck. 23 of 310 in scan 5 → 5 of 300 in scan 9; "
        "of 2,451 samples in both, 19 are no longer confused so and 1 is new; McNemar "
        "p = 0.00004; Holm over 6: p = 0.00024."
    )
    assert (proof.baseline, proof.scan) == (5, 9)
    assert proof_of({}).text == "No scan has proved anything yet."
    with_target = proof_of(PROVED | {"why": "above_target", "target": 3, "family": 1})
    assert with_target.text.endswith("McNemar p = 0.00004; target 3.")


def test_the_page_shows_proof_value_and_events(
    world: World, rita: User, client_of: ClientOf, line: Confusion, address: str
) -> None:
    later = factories.ScanFactory(
        model_version=world.scan.model_version, split="val", correct=1
    )
    proved = PROVED | {"baseline": world.scan.pk, "scan": later.pk}
    Confusion.objects.update(state="fixed", evidence=proved)
    ConfusionEvent.objects.create(
        confusion=line, scan=later, new_state="fixed", evidence=proved | {"present": 5}
    )
    response = client_of(rita).get(address)
    assert response.text.count("such a fall is hardly luck") == 2  # state and event
    assert f"/compare/{world.scan.pk}/{later.pk}/" in response.text
    assert "5 still seen" in response.text
    assert response.context["value"].count == 3
    assert "accuracy +30 points, macro-F1 +18 points" in response.text
    assert "No scan has proved anything" not in response.text


def test_what_became_of_the_findings(world: World, line: Confusion) -> None:
    later = factories.ScanFactory(model_version=world.scan.model_version)
    still, fixed, back = world.findings
    Finding.objects.filter(pk=fixed.pk).update(presence="fixed")
    Finding.objects.filter(pk=back.pk).update(presence="regressed")
    new, gone, replaced = world.add_findings(3)
    Sighting.objects.filter(finding=new).delete()
    Finding.objects.filter(pk=replaced.pk).update(presence="superseded")
    for finding in (still, back, new):
        factories.SightingFactory(finding=finding, scan=later)
    assert gone.presence == "seen"
    assert fates_of(line, later.pk) == Fates(1, 1, 1, 1, 1, 1)


def test_it_looks_at_the_hardest_alone(
    world: World, line: Confusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reviewapp.ledger.FOLLOWED", 2)
    assert fates_of(line, world.scan.pk) == Fates(new=2, is_cut=True)


def test_the_fix_sets_that_claim_it_and_their_versions(
    world: World, alice: User, client_of: ClientOf, address: str
) -> None:
    for finding in world.findings[:2]:
        decide(finding=finding, by=alice, verdict=Verdict.CONFIRM, version=0)
    chosen = {"dataset": world.dataset, "findings": Finding.objects.all(), "by": alice}
    frozen = freeze_fix_set(name="only frozen", **chosen)
    exported = freeze_fix_set(name="exported", **chosen)
    run_export(export=request_export(fix_set=exported, format="csv", by=alice))
    version = factories.ModelVersionFactory(
        registered_model=world.model, checkpoint="b", trained_on=exported
    )
    page = client_of(alice).get(address)
    [claim] = page.context["claims"]
    assert (claim, claim.held) == (exported, 2)
    assert (
        f'trained <a href="/datasets/animals/models/{world.model.pk}/">{version}'
        in page.text
    )
    assert frozen.name not in page.text


def test_a_lead_plans_and_a_reviewer_takes_it_on(
    world: World, lena: User, rita: User, client_of: ClientOf, address: str
) -> None:
    leads, reviews = client_of(lena), client_of(rita)
    assert "Take it on" in reviews.get(address).text
    answer = reviews.post(f"{address}plan/", {"take": "1"})
    assert answer.headers["Location"] == address
    assert "Give it up" in reviews.get(address).text
    sent = {"owner": rita.pk, "plan": "augment", "target": "2"}
    assert reviews.post(f"{address}plan/", sent).status_code == 403
    assert leads.post(f"{address}plan/", sent).status_code == 302
    line = Confusion.objects.get()
    assert (line.owner, line.plan, line.target) == (rita, "augment", 2)
    assert "at most 2 in a scan" in reviews.get(address).text
    ledger = leads.get(URL).text
    assert "<td>rita</td>" in ledger
    assert "<td>augment</td>" in ledger


@pytest.mark.parametrize(
    "sent", [{"target": "-1"}, {"plan": "dance"}, {"owner": "9999999"}, {"target": "x"}]
)
def test_a_plan_that_cannot_be_is_said_and_changes_nothing(
    world: World, lena: User, client_of: ClientOf, address: str, sent: dict[str, str]
) -> None:
    response = client_of(lena).post(f"{address}plan/", sent)
    assert response.status_code == 400
    assert "errorlist" in response.text
    line = Confusion.objects.get()
    assert (line.owner, line.plan, line.target) == (None, "", None)


def test_another_team_can_plan_nothing(
    world: World, charlie: User, client_of: ClientOf, address: str
) -> None:
    assert client_of(charlie).post(f"{address}plan/", {"take": "1"}).status_code == 404


def test_the_ledger_is_sorted_by_value_page_by_page(
    world: World, rita: User, client_of: ClientOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reviewapp.views.history.PAGE_SIZE", 1)
    factories.ConfusionFactory(
        registered_model=world.model,
        true_label=world.labels[1],
        predicted_label=world.labels[2],
        present=99,
    )
    client = client_of(rita)

    def names(**query: object) -> tuple[list[str], str | None]:
        page = client.get(URL, query)
        rows = page.context["rows"]
        return [str(row.entry.line) for row in rows], page.context["page"].next

    assert names()[0] == ["dog → fox"]
    first, after = names(ordering="value")
    assert first == ["cat → dog"]
    assert names(ordering="value", after=after) == (["dog → fox"], None)
    assert client.get(URL, {"ordering": "value", "after": "x"}).status_code == 400
