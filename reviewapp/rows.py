"""Rows of statements as text, made instances of models.

The desk reads the same few things at every verdict. Django takes longer to put such a
query together than PostgreSQL to answer it, so these statements are text; what they bring
are the instances that a queryset would have brought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import psycopg
from django.db import connection
from django.db.models import Model

from reviewapp.models import (
    Claim,
    Dataset,
    Exemplar,
    Finding,
    Label,
    RegisteredModel,
    Sample,
)

ModelT = TypeVar("ModelT", bound=Model)


# Connections in which a prepared statement keeps its first plan.
_one_plan: WeakSet[psycopg.Connection[Any]] = WeakSet()


def fetch(
    statement: str, values: Mapping[str, Any] | Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Run a statement that is the same every time, and return its rows.

    It stays prepared in its connection, with one plan for all values: planning takes
    longer than running what finds a few rows by their keys, and nothing else may be in
    it. Where somebody watches the queries, and behind PgBouncer, which shares
    connections, it runs as any other.
    """
    is_watched = connection.queries_logged or connection.execute_wrappers
    if is_watched or connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    with (
        connection.wrap_database_errors,
        psycopg.Cursor(connection.connection) as prepared,
    ):
        if connection.connection not in _one_plan:
            # PostgreSQL takes an array that it does not see for ten ids, and would plan
            # anew for one each time. Nothing else is prepared here.
            prepared.execute("SET plan_cache_mode = force_generic_plan")
            connection.connection.prepare_threshold = 5  # Django sets None: never
            _one_plan.add(connection.connection)
        prepared.execute(statement, values, prepare=True)
        return list(prepared.fetchall())


class Columns(Generic[ModelT]):
    """The columns of one model in a statement.

    Attributes:
        sql: What to select, by the alias of the table.
        width: How many columns these are.
    """

    def __init__(self, model: type[ModelT], alias: str) -> None:
        fields = model._meta.concrete_fields  # noqa: SLF001 - documented by Django
        self._model = model
        self._names = [field.attname for field in fields]
        self._converters: list[tuple[int, Callable[..., Any]]] = [
            (place, field.from_db_value)
            for place, field in enumerate(fields)
            if hasattr(field, "from_db_value")
        ]
        self.sql = ", ".join(f'{alias}."{field.column}"' for field in fields)
        self.width = len(fields)

    def read(self, values: Sequence[Any]) -> ModelT | None:
        """Return the instance; None where an outer join found no row."""
        if values[0] is None:
            return None
        row = list(values)
        for place, convert in self._converters:
            row[place] = convert(row[place], None, connection)
        return self._model.from_db(connection.alias, self._names, row)


def split(
    row: Sequence[Any], columns: Iterable[Columns[Any]]
) -> list[Any]:  # instances, or None
    """Return the instances that stand side by side in a row."""
    found, start = [], 0
    for part in columns:
        found.append(part.read(row[start : start + part.width]))
        start += part.width
    return found


FINDING = Columns(Finding, "f")
# What belongs to a finding: the name of its relation, and the columns.
NAMES: dict[str, Columns[Any]] = {
    "sample": Columns(Sample, "s"),
    "true_label": Columns(Label, "t"),
    "predicted_label": Columns(Label, "p"),
    "registered_model": Columns(RegisteredModel, "m"),
}
LOCKED: dict[str, Columns[Any]] = NAMES | {
    "dataset": Columns(Dataset, "d"),
    "claim": Columns(Claim, "c"),
}
# As `select_related` fills them, without a claim too: nobody looks for it again.
RELATIONS: dict[str, Any] = {
    name: Finding._meta.get_field(name)  # noqa: SLF001 - documented by Django
    for name in LOCKED
}

_WITH_NAMES = """
SELECT {columns}
  FROM reviewapp_finding f
  JOIN reviewapp_sample s ON s.id = f.sample_id
  JOIN reviewapp_label t ON t.id = f.true_label_id
  JOIN reviewapp_label p ON p.id = f.predicted_label_id
  JOIN reviewapp_registeredmodel m ON m.id = f.registered_model_id
  {joins}
 WHERE f.id = ANY(%(ids)s::bigint[]) {condition}
"""


def _statement(
    names: Mapping[str, Columns[Any]], joins: str = "", condition: str = ""
) -> str:
    columns = ", ".join([FINDING.sql, *(part.sql for part in names.values())])
    return _WITH_NAMES.format(columns=columns, joins=joins, condition=condition)


WAITING = _statement(
    NAMES,
    condition="AND f.review_state = 'open' AND f.presence IN ('seen', 'regressed')",
)
WITH_CLAIM = _statement(
    LOCKED,
    joins="""JOIN reviewapp_dataset d ON d.id = f.dataset_id
  LEFT JOIN reviewapp_claim c ON c.finding_id = f.id""",
)


def waiting_findings(ids: Sequence[int]) -> dict[int, Finding]:
    """Return those of these findings that wait, with their names, by id."""
    return _findings(WAITING, NAMES, ids)


def findings_with_claims(ids: Sequence[int]) -> dict[int, Finding]:
    """Return findings with their names, data set and claim, by id."""
    return _findings(WITH_CLAIM, LOCKED, ids)


def _findings(
    statement: str, names: Mapping[str, Columns[Any]], ids: Sequence[int]
) -> dict[int, Finding]:
    found = {}
    for row in fetch(statement, {"ids": list(ids)}):
        finding, *others = split(row, (FINDING, *names.values()))
        for name, other in zip(names, others, strict=True):
            RELATIONS[name].set_cached_value(finding, other)
        # Nearly always the same, and asked for by every verdict.
        if finding.sample.label_id == finding.true_label_id:
            finding.sample.label = finding.true_label
        found[finding.pk] = finding
    return found


EXEMPLAR = Columns(Exemplar, "e")
FOR_DESK = f"""
SELECT {EXEMPLAR.sql}
  FROM reviewapp_exemplar e JOIN reviewapp_sample s ON s.id = e.sample_id
 WHERE e.registered_model_id = %(model)s AND e.label_id = ANY(%(labels)s::bigint[])
   AND e.sample_id <> %(sample)s AND s.removed_at IS NULL
   AND s.label_id = e.label_id AND s.digest = e.digest
 ORDER BY e.label_id, e.place
"""  # noqa: S608 - the names of columns


def exemplars_for(finding: Finding) -> list[Exemplar]:
    """Return those of both classes of a finding, without itself, the surest first.

    Samples that were removed, relabelled or are another image since are left out.
    """
    values = {
        "model": finding.registered_model_id,
        "labels": [finding.true_label_id, finding.predicted_label_id],
        "sample": finding.sample_id,
    }
    found = (EXEMPLAR.read(row) for row in fetch(FOR_DESK, values))
    return [exemplar for exemplar in found if exemplar]
