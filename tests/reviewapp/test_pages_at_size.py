"""The lists over 20,000 findings: bounded plans, and no more queries than over three."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reviewapp.models import Confusion, Finding, Label, Scan
from reviewapp.values import values_of
from tests import factories
from tests.reviewapp.test_plans import crowd, reads  # noqa: F401 (fixtures)

# In one process: the crowd takes seconds to make.
pytestmark = [pytest.mark.django_db, pytest.mark.xdist_group("crowd")]
LIST = "finding-list"


@pytest.fixture
def client(crowd) -> Client:  # noqa: F811
    factories.MembershipFactory(user=crowd.by, dataset=crowd.dataset)
    client = Client()
    client.force_login(crowd.by, backend="reviewapp.sessions.People")
    return client


# Of an empty table every plan reads all.
SEEN = """
INSERT INTO reviewapp_sighting
       (scan_id, finding_id, confidence, p_true, margin, loss, top_labels, top_probs)
SELECT %(scan)s, id, confidence, 1 - priority, 0, 0, '{}', '{}'
  FROM reviewapp_finding WHERE dataset_id = %(dataset)s
"""


@pytest.fixture
def ledger(crowd) -> Confusion:  # noqa: F811
    """The largest confusion's line, in a scan of another split that did not see it."""
    version = factories.ModelVersionFactory(registered_model=crowd.model)
    scan = factories.ScanFactory(
        dataset=crowd.dataset,
        model_version=version,
        state=Scan.State.DONE,
        split="test",
        classes=[label.pk for label in crowd.labels],
        samples=10,
        correct=10,
        errors=0,
        near_misses=0,
        unreadable=0,
    )
    true, predicted, *others = crowd.labels
    for other in others:
        factories.ConfusionCountFactory(
            scan=scan, true_label=true, predicted_label=other, count=5
        )
    line = Confusion.objects.get(true_label=true, predicted_label=predicted)
    with connection.cursor() as cursor:
        cursor.execute(SEEN, {"scan": scan.pk, "dataset": crowd.dataset.pk})
        cursor.execute("ANALYZE reviewapp_sighting")
    values_of(crowd.dataset, [line])  # counts all verdicts, every five minutes
    return line


def address(name: str, *args: object) -> str:
    return reverse(name, args=["crowd", *args])


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"view": "table"},
        {"show": "waiting"},
        {"show": "reviewed"},
        {"show": "fixed"},
        {"show": "everything"},
        {"kind": "near_miss"},
        {"review_state": "disputed"},
        {"review_state": "confirmed"},
        {"presence": "regressed"},
        {"presence": "superseded"},
        {"p_true_below": "0.4"},
        {"confidence_from": "0.5", "confidence_to": "0.5"},
        {"confidence_from": "1", "show": "everything"},
        {"split": "test"},
        {"cause": "blur"},
        {"cause": "pose"},
        {"key": "0000"},
        {"key": "no such name"},
        {"key": "test/00000007"},
        {"true_label": "0"},
        {"predicted_label": "3"},
        {"true_label": "0", "predicted_label": "1"},
        {"true_label": "0", "predicted_label": "1", "show": "reviewed"},
    ],
)
def test_the_list_reads_a_bounded_number_of_rows(crowd, client, reads, data):  # noqa: F811
    labels = ("true_label", "predicted_label")
    sent = {
        name: crowd.labels[int(value)].pk if name in labels else value
        for name, value in data.items()
    }
    first = client.get(address(LIST), sent)
    assert first.status_code == 200
    if first.context["page"].next:
        after = first.context["page"].next
        second = client.get(address(LIST), {**sent, "after": after})
        rows = first.context["page"].rows + second.context["page"].rows
        assert len(rows) == len(set(rows))
        assert rows == sorted(rows, key=lambda f: (f.priority, f.pk), reverse=True)


@pytest.fixture
def sighted(crowd) -> Scan:  # noqa: F811
    """The last of three scans that saw all of it."""
    version = factories.ModelVersionFactory(registered_model=crowd.model)
    classes = [label.pk for label in crowd.labels]
    scans = [
        factories.ScanFactory(model_version=version, classes=classes) for _ in range(3)
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO reviewapp_sighting (scan_id, finding_id, confidence, p_true,"
            " margin, loss, top_labels, top_probs)"
            " SELECT scan, id, 0.9, 0.1, 0.5, 1, ARRAY[]::bigint[], ARRAY[]::float8[]"
            " FROM reviewapp_finding, unnest(%s::bigint[]) scan WHERE dataset_id = %s",
            [[scan.pk for scan in scans], crowd.dataset.pk],
        )
        cursor.execute("ANALYZE reviewapp_sighting")
    return scans[-1]


@pytest.mark.parametrize("is_pair", [False, True])
def test_the_findings_of_a_scan_read_a_bounded_number_of_rows(
    crowd,  # noqa: F811
    client,
    sighted,
    reads,  # noqa: F811
    is_pair,
):
    sent = {"scan": sighted.pk, "show": "everything"}
    if is_pair:
        true, predicted = (label.pk for label in crowd.labels[:2])
        sent |= {"true_label": true, "predicted_label": predicted}
    page = client.get(address(LIST), sent).context["page"]
    assert len(page.rows) == 60
    assert page.next


def test_the_pages_of_the_ledger_read_a_bounded_number_of_rows(
    crowd,  # noqa: F811
    client,
    ledger,
    reads,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr("reviewapp.ledger.LOOKED_AT", 10)  # of each line
    assert client.get(address("history"), {"ordering": "value"}).status_code == 200
    assert client.get(address("history")).status_code == 200
    page = client.get(address("confusion-detail", ledger.pk))
    counts = {name: n for name, _, n in page.context["findings"]}
    assert counts["Still seen"] > 500
    assert client.get(address("confusion-list")).status_code == 200


@pytest.mark.parametrize("lane", ["", "label", "model", "near_miss"])
def test_the_queue_page_reads_a_bounded_number_of_rows(
    crowd,  # noqa: F811
    client,
    reads,  # noqa: F811
    monkeypatch,
    lane,
):
    monkeypatch.setattr("reviewapp.views.desk.COUNTED_IN_LANE", 100)  # of 20,000
    page = client.get(address("review"), {"lane": lane})
    assert page.context["free"] > 100


def test_the_overview_reads_a_bounded_number_of_rows(
    crowd,  # noqa: F811
    client,
    ledger,
    reads,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr("reviewapp.views.dashboard.COUNTED", 1000)
    # With so few findings reading on until a thousand match may seem as cheap.
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    page = client.get(address("dataset-detail")).content.decode()
    assert "over 1,000 confirmed, 0 relabelled, over 1,000 dismissed" in page
    assert "4,000" in page  # all that is reviewed


@pytest.mark.parametrize("name", ["finding-list", "history", "confusion-list"])
def test_it_costs_the_queries_of_three_findings(crowd, client, ledger, world, name):  # noqa: F811
    factories.MembershipFactory(user=crowd.by, dataset=world.dataset)
    world.scan.split = "test"
    world.scan.save(update_fields=["split"])

    def queries(slug: str) -> int:
        client.get(reverse(name, args=[slug]))  # what is kept for minutes, or for good
        with CaptureQueriesContext(connection) as found:
            assert client.get(reverse(name, args=[slug])).status_code == 200
        return len(found)

    # A list of one page needs no count.
    assert queries("crowd") - queries("animals") == (name == "finding-list")


def test_a_deep_page_of_the_list(crowd, client, reads):  # noqa: F811
    after = None
    for _ in range(5):
        page = client.get(address(LIST), {"show": "everything", "after": after or ""})
        after = page.context["page"].next
    assert page.context["count"] == "over 1,000"
    assert len(page.context["page"].rows) == 60


def test_a_search_goes_on_where_it_stopped(crowd, client):  # noqa: F811
    """Each step looks through 2,000 findings; together they miss none."""
    found, after, steps = [], "", 0
    while after is not None:
        sent = {"show": "everything", "key": "0777", "after": after}
        page = client.get(address(LIST), sent).context["page"]
        found += page.rows
        after, steps = page.next, steps + 1
    wanted = Finding.objects.for_dataset(crowd.dataset).filter(
        sample__key__icontains="0777"
    )
    assert {f.pk for f in found} == {f.pk for f in wanted}
    assert len(found) == len(wanted) > 2
    assert steps == 11  # 20,000 in steps of 2,000, and the end


def test_a_label_without_findings_finds_nothing(crowd, client, reads):  # noqa: F811
    label: Label = factories.LabelFactory(dataset=crowd.dataset)
    page = client.get(address(LIST), {"true_label": label.pk})
    assert page.context["page"].rows == []
    assert page.context["count"] == "0"
