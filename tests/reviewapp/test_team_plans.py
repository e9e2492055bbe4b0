"""The team's figures read the last days and each person's last opinions, not all."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from reviewapp.team import team_figures
from reviewapp.worth import worth_of
from tests import factories
from tests.reviewing import queue_of

ROWS = 60_000  # one every ten minutes: some 1,000 of them in seven days

REVIEWS = """
INSERT INTO reviewapp_review
       (dataset_id, finding_id, finding_version, reviewer_id, verdict, label_before_id,
        state_before, causes, superseded, reason, note, created_at)
SELECT %(dataset)s, %(finding)s, i, (%(by)s::bigint[])[1 + i %% 4], 'dismiss', %(label)s, 'open', '{}', '[]', '', '',
       now() - (%(rows)s - i) * interval '10 minutes'
  FROM generate_series(1, %(rows)s) i
"""
OPINIONS = """
INSERT INTO reviewapp_opinion
       (finding_id, finding_version, reviewer_id, verdict, reason, causes, note, created_at)
SELECT %(finding)s, i, (%(by)s::bigint[])[1 + i %% 4], 'dismiss', '', '{}', '',
       now() - (%(rows)s - i) * interval '10 minutes'
  FROM generate_series(1, %(rows)s) i
"""


@pytest.fixture
def veteran(world, rita, lena, alice):
    """Rita, one of four who gave 60,000 verdicts and as many opinions in 14 months."""
    people = [rita, lena, alice, factories.UserFactory()]
    finding = world.findings[0]
    values = {
        "dataset": finding.dataset_id,
        "finding": finding.pk,
        "by": [user.pk for user in people],
        "label": finding.true_label_id,
        "rows": ROWS,
    }
    with connection.cursor() as cursor:
        for fill in (REVIEWS, OPINIONS):
            cursor.execute(fill, values)
        for name in ("review", "opinion"):
            cursor.execute("SELECT brin_summarize_new_values(%s)", [f"{name}_created"])
            cursor.execute(f"ANALYZE reviewapp_{name}")
    return rita


def plans_of(read) -> list[dict[str, Any]]:
    """Return the nodes of the plans of what a function reads."""
    nodes = []

    def look(node):
        nodes.append(node)
        for child in node.get("Plans", ()):
            look(child)

    def explain(execute, sql, params, many, context):
        with connection.connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params)
            look(cursor.fetchone()[0][0]["Plan"])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        read()
    return nodes


def rows_read(nodes: list[dict[str, Any]]) -> dict[str, float]:
    """Return how many rows were read of each table, those thrown away included."""
    found: dict[str, float] = {}
    for node in nodes:
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        rows = (rows + node.get("Rows Removed by Index Recheck", 0)) * node[
            "Actual Loops"
        ]
        table = node.get("Relation Name", "")
        found[table] = max(found.get(table, 0), rows)
    return found


def test_figures_read_the_last_days_alone(world, veteran):
    nodes = plans_of(lambda: team_figures(world.dataset))
    read = rows_read(nodes)
    # A range of the index is 128 pages, some 9,000 rows here: at most two of them.
    assert 1_000 < read["reviewapp_review"] < 20_000
    assert 1_000 < read["reviewapp_opinion"] < 20_000
    # Four people's last 500, and nothing for who has given none.
    factories.MembershipFactory(dataset=world.dataset)
    (each,) = [
        node
        for node in plans_of(lambda: team_figures(world.dataset))
        if node.get("Alias") == "reviewapp_opinion" and node["Actual Loops"] == 5
    ]
    assert each["Index Name"] == "opinion_reviewer_newest"
    assert each["Actual Rows"] * 5 == 2_000
    assert team_figures(world.dataset).total.week == 2 * 7 * 24 * 6


def test_the_worth_reads_the_newest_alone(world, veteran):
    queue = queue_of(world.dataset)
    for by in (veteran, factories.UserFactory()):  # who has given none
        nodes = plans_of(lambda by=by: worth_of(world.dataset, by, queue))
        assert rows_read(nodes)["reviewapp_review"] <= 20_000
        assert worth_of(world.dataset, by, queue).of == 50
