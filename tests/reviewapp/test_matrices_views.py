"""The matrix page and its cells: every number leads to as many findings."""

from __future__ import annotations

import base64
import html
import re
from collections import Counter

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mining.ordering import ORDERS
from reviewapp.matrices import SCALES
from reviewapp.models import ConfusionCount, Finding, Sample, Scan, Sighting
from tests import factories

URL = "/datasets/animals/scans/{}/matrix/"
API = "/api/datasets/animals/matrices/{}/"
Seen = list[tuple[int, int]]


def add_scan(version, labels, seen: Seen) -> Scan:
    """Add a finished scan with a finding for each error."""
    wrong = sum(true != predicted for true, predicted in seen)
    scan = factories.ScanFactory(
        model_version=version, correct=len(seen) - wrong, errors=wrong
    )
    for (true, predicted), n in Counter(seen).items():
        ConfusionCount.objects.create(
            scan=scan,
            true_label=labels[true],
            predicted_label=labels[predicted],
            count=n,
        )
        if true != predicted:
            _add_findings(scan, labels[true], labels[predicted], n)
    return scan


def _add_findings(scan: Scan, true, predicted, n: int) -> None:
    start = Sample.objects.count()
    samples = Sample.objects.bulk_create(
        factories.SampleFactory.build(
            label=true,
            original_label=true,
            dataset=true.dataset,
            key=f"{start + i}.png",
        )
        for i in range(n)
    )
    findings = Finding.objects.bulk_create(
        factories.FindingFactory.build(
            sample=sample,
            dataset=true.dataset,
            predicted_label=predicted,
            registered_model=scan.model_version.registered_model,
        )
        for sample in samples
    )
    Sighting.objects.bulk_create(
        factories.SightingFactory.build(finding=finding, scan=scan)
        for finding in findings
    )


@pytest.fixture
def page(client_of, rita):
    """Return the page of a scan with a query."""

    def page(scan: Scan, **query: object):
        return client_of(rita).get(URL.format(scan.pk), query)

    return page


@pytest.fixture
def cells(client_of, rita):
    def cells(scan: Scan, **query: object):
        return client_of(rita).get(API.format(scan.pk), query)

    return cells


queries = st.fixed_dictionaries(
    {
        "order": st.sampled_from(ORDERS),
        "top": st.sampled_from(["10", "all"]),
        "scale": st.sampled_from(SCALES),
        "right": st.sampled_from(["show", "hide"]),
    }
)
images = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seen=images, before=images, query=queries)
def test_a_count_leads_to_as_many_findings(
    page, cells, client_of, rita, version, labels, seen: Seen, before: Seen, query
) -> None:
    other, scan = (add_scan(version, labels, each) for each in (before, seen))
    client = client_of(rita)

    shown = page(scan, **query)

    rows = shown.context["rows"]
    for row in rows:
        assert len(client.get(row.findings).context["page"].rows) == row.cell.count
    assert sum(row.cell.count for row in rows) == scan.errors
    data = cells(scan, **query).json()
    assert (data["errors"], data["before"]) == (scan.errors, None)
    assert sum(map(sum, data["counts"])) == scan.errors + data["right"]
    assert data["right"] == (scan.correct if query["right"] == "show" else 0)
    for row in page(scan, **query, against=other.pk).context["rows"]:
        for address, n in (
            (row.findings, row.cell.count),
            (row.findings_before, row.cell.before),
        ):
            assert bool(address) == bool(n)
            if n:
                assert len(client.get(address).context["page"].rows) == n


def test_the_page_says_its_numbers_and_needs_no_script(page, world, dataset) -> None:
    response = page(world.scan, order="name")
    text = html.unescape(re.sub(r"\s+", " ", response.content.decode()))
    assert "3 of 3 errors</strong> and 7 of 7 right images among the 3 of 3" in text
    row = response.context["rows"][0]
    assert (row.actual, row.predicted, row.cell.of_actual) == ("cat", "dog", 0.3)
    assert f'href="{row.findings}"' in text
    assert f"scan={world.scan.pk}&registered_model={world.model.pk}" in row.findings
    source = response.context["source"]
    assert source.startswith(f"/api/datasets/animals/matrices/{world.scan.pk}/?")
    assert "order=name" in source
    assert "cells=packed" in source


def test_the_cells_come_as_few_numbers(cells, world) -> None:
    data = cells(world.scan, order="name").json()
    assert data["classes"] == ["cat", "dog", "fox"]
    assert data["labels"] == [label.pk for label in world.labels]
    assert data["columns"] == [[0, 1], [], []]
    assert data["counts"] == [[7, 3], [], []]
    assert (data["support"], data["predicted"]) == ([10, 0, 0], [7, 3, 0])
    assert (data["errors"], data["right"], data["of_classes"]) == (3, 7, 3)
    assert cells(world.scan, order="name", right="hide").json()["counts"][0] == [3]


def unpacked(packed) -> dict[str, list[list[int]]]:
    """Return the numbers of each row, read as matrix.js reads them."""
    rows = {}
    for name in ("columns", "counts", "before"):
        if packed[name] is None:
            continue
        data = base64.b64decode(packed[name])
        width = len(data) // packed["ends"][-1]
        flat = np.frombuffer(data, f"<u{width}")
        rows[name] = [part.tolist() for part in np.split(flat, packed["ends"][:-1])]
    return rows


@pytest.mark.parametrize("largest", [1, 300, 70_000])  # 1, 2 and 4 bytes
def test_packed_cells_are_those_of_the_lists(
    cells, world, version, labels, largest
) -> None:
    later = factories.ScanFactory(model_version=version)
    for true, predicted, n in ((0, 0, largest), (2, 1, 1)):
        factories.ConfusionCountFactory(
            scan=later,
            true_label=labels[true],
            predicted_label=labels[predicted],
            count=n,
        )
    for query in ({"against": world.scan.pk}, {"right": "hide"}, {"top": "10"}):
        lists = cells(later, **query).json()
        packed = cells(later, **query, cells="packed").json()
        found = unpacked(packed.pop("packed"))
        assert lists.pop("packed") is None
        for name in ("columns", "counts", "before"):
            assert packed.pop(name) is None
            assert found.get(name) == lists.pop(name)
        assert packed == lists
    assert cells(later, cells="zip").status_code == 400


def test_a_difference_has_both_counts(cells, page, world, version, labels) -> None:
    later = add_scan(version, labels, [(0, 0)] * 8 + [(0, 1), (0, 2)])
    data = cells(later, order="name", against=world.scan.pk).json()
    assert data["columns"][0] == [0, 1, 2]
    assert data["counts"][0] == [8, 1, 1]
    assert data["before"][0] == [7, 3, 0]
    assert data["support_before"] == [10, 0, 0]
    response = page(later, against=world.scan.pk)
    assert [row.change for row in response.context["rows"]] == ["\u22122", "+1"]
    assert b"3 errors became 2" in response.content
    assert b"do not share everything" not in response.content
    Scan.objects.filter(pk=later.pk).update(split="val")
    apart = page(later, against=world.scan.pk).content.decode()
    assert f"Scan {later.pk} is of val, scan {world.scan.pk} of test" in apart


def test_a_scan_for_the_record_has_no_findings_to_lead_to(page, world) -> None:
    Scan.objects.filter(pk=world.scan.pk).update(for_record=True)
    response = page(world.scan)
    assert [row.findings for row in response.context["rows"]] == [""]
    assert b"for the record" in response.content


def test_many_classes_are_shown_in_part_unless_all_are_asked_for(
    page, version, dataset
) -> None:
    for number in range(98):
        factories.LabelFactory(dataset=dataset, name=f"class {number}")
    scan = factories.ScanFactory(model_version=version)
    assert len(scan.classes) == 101
    assert len(page(scan).context["drawing"].names) == 100
    assert len(page(scan, top="all").context["drawing"].names) == 101
    assert len(page(scan, top="10").context["drawing"].names) == 10


@pytest.mark.parametrize(
    "query",
    [
        {"order": "luck"},
        {"top": "1e9"},
        {"top": ""},
        {"scale": "\0"},
        {"right": "perhaps"},
        {"against": "0"},
        {"against": "9" * 40},
        {"against": "x\0"},
        {"against": "²"},
    ],
)
def test_what_makes_no_sense_is_said_and_shown_as_usual(
    page, cells, world, query
) -> None:
    response = page(world.scan, **query)
    assert response.status_code == 200
    assert b"errorlist" in response.content
    assert response.context["drawing"].now.errors == 3
    refused = cells(world.scan, **query)
    assert refused.status_code == 400
    assert set(refused.json()) == set(query)


def test_the_api_refuses_a_parameter_that_there_is_not(cells, world) -> None:
    assert "typo" in cells(world.scan, typo=1).json()


def test_another_teams_scan_is_none_to_hold_against(
    page, cells, world, charlie
) -> None:
    hidden = factories.ScanFactory(
        model_version__registered_model__dataset=charlie.memberships.get().dataset
    )
    assert page(world.scan, against=hidden.pk).context["against"] is None
    assert cells(world.scan, against=hidden.pk).status_code == 400
    assert cells(hidden).status_code == 404


def test_a_scan_without_a_matrix_says_why(page, cells, version) -> None:
    scan = factories.ScanFactory(model_version=version, state=Scan.State.RUNNING)
    response = page(scan)
    assert response.status_code == 400
    assert b"Wait until it is done" in response.content
    assert cells(scan).status_code == 400


def test_the_pages_of_the_scan_and_of_a_comparison_lead_there(
    client_of, rita, world
) -> None:
    later = factories.ScanFactory(model_version=world.scan.model_version)
    client = client_of(rita)
    link = f'href="{URL.format(world.scan.pk)}'
    for address in (f"scans/{world.scan.pk}/", f"confusions/?scan={world.scan.pk}"):
        assert link in client.get(f"/datasets/animals/{address}").content.decode()
    compare = f"/datasets/animals/compare/{later.pk}/{world.scan.pk}/"
    assert f"{link}?against={later.pk}" in client.get(compare).content.decode()


def test_the_findings_of_one_cell_are_counted_to_the_last(
    client_of, rita, version, labels
) -> None:
    scan = add_scan(version, labels, [(0, 1)] * 70 + [(1, 0)] * 3)
    add_scan(version, labels, [(0, 1)] * 5)
    query = {"show": "everything", "scan": scan.pk, "kind": "misclassified"}
    pair = {"true_label": labels[0].pk, "predicted_label": labels[1].pk}
    url = "/datasets/animals/findings/"
    response = client_of(rita).get(url, query | pair)
    assert (response.context["count"], len(response.context["page"].rows)) == ("70", 60)
    assert client_of(rita).get(url, query).context["count"] == ""
    api = client_of(rita).get("/api/datasets/animals/findings/", {"scan": scan.pk})
    assert len(api.json()["results"]) == 73


@pytest.mark.parametrize("scan", ["0", "-1", "1.5", "9" * 30, "x", "\0"])
def test_a_scan_that_is_none_finds_nothing(client_of, rita, world, scan) -> None:
    response = client_of(rita).get("/datasets/animals/findings/", {"scan": scan})
    assert response.status_code == 200
    assert response.context["page"].rows == []


def test_once_kept_it_is_read_in_few_queries(page, cells, world) -> None:
    page(world.scan)
    with CaptureQueriesContext(connection) as queries:
        page(world.scan)
    few = len(queries)
    for true, predicted in ((1, 1), (1, 2), (2, 0)):
        factories.ConfusionCountFactory(
            scan=world.scan,
            true_label=world.labels[true],
            predicted_label=world.labels[predicted],
        )
        factories.ScanFactory(model_version=world.scan.model_version)
    with CaptureQueriesContext(connection) as queries:
        page(world.scan)
    assert len(queries) == few
    for table in ("confusioncount", "scanmatrix"):
        assert not [query for query in queries if table in query["sql"]]
