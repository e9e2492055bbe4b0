"""Searching findings by what no index has in order: step by step, never all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection, transaction

from reviewapp.models.findings import FindingQuerySet, confidence_ends
from reviewapp.pagination import merged_rows

STEP = 2000  # findings that one page looks through: some 20 ms
BY = ("priority", "id")

# A scalar look for the sighting: after an OR, EXISTS would read all of the scan's.
# `step` is in order, so this stops at the first findings that match, without a sort.
# In a CASE a narrow range is not taken for the place to begin with.
FOUND = """
SELECT step.id FROM ({step}) step (priority, id)
  JOIN reviewapp_finding f ON f.id = step.id
  JOIN reviewapp_sample s ON s.id = f.sample_id
 WHERE (%s = '' OR s.split = %s)
   AND CASE WHEN f.confidence BETWEEN %s AND %s THEN true ELSE false END
   AND (%s = '' OR strpos(upper(s.key), upper(%s)) > 0)
   AND (%s = '' OR EXISTS (
         SELECT FROM reviewapp_review r
          WHERE r.finding_id = f.id AND r.causes @> ARRAY[%s]::varchar[]
            AND NOT EXISTS (SELECT FROM reviewapp_undo u WHERE u.review_id = r.id)))
   AND (%s = 0 OR (
         SELECT true FROM reviewapp_sighting g
          WHERE g.scan_id = %s AND g.finding_id = f.id))
 ORDER BY step.priority DESC, step.id DESC LIMIT %s
"""
# The estimates take 2,000 looks into a table for dearer than reading all of it.
ONE_BY_ONE = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for; an empty text is not."""

    key: str = ""  # in the file name, in any case
    cause: str = ""  # of a standing verdict
    split: str = ""  # of the sample
    confidence_from: float | None = None
    confidence_to: float | None = None
    scan: int = 0  # id of one that saw it

    def __bool__(self) -> bool:
        """Whether anything is searched for."""
        ends = (self.confidence_from, self.confidence_to)
        return any((self.key, self.cause, self.split, self.scan)) or ends != (
            None,
            None,
        )


def search(
    parts: Sequence[FindingQuerySet], wanted: Wanted, *, after: str | None, size: int
) -> tuple[list[int], int | None]:
    """Look through the next findings of a list, hardest first.

    Args:
        parts: The list in disjoint sets, each in order by an index.
        wanted: What to look for.
        after: The token of the page before; None: from the first.
        size: Findings wanted.

    Returns:
        The ids of what was found, and after which finding to look on: None when all
        were looked at.
    """
    step = merged_rows(parts, by=BY, after=after, size=STEP)
    sql, params = step.query.sql_with_params()
    ends = confidence_ends(wanted.confidence_from, wanted.confidence_to)
    given = [wanted.split] * 2 + [*ends] + [wanted.key] * 2 + [wanted.cause] * 2
    given += [wanted.scan] * 2
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ONE_BY_ONE)
        cursor.execute(FOUND.format(step=sql), (*params, *given, size + 1))
        found = [pk for (pk,) in cursor.fetchall()]
    if len(found) > size:
        return found[:size], found[size - 1]
    last = step[STEP - 1 : STEP].first()
    return found, last[-1] if last else None
