"""Empty the database after a test that committed.

Django's flush truncates every table, some fifty of them with their indexes, and makes
the content types and permissions anew: near a second. A test fills a dozen tables with
a few rows, which are deleted in milliseconds.
"""

from __future__ import annotations

import functools
from typing import Any

from django.db import connection, transaction

KEPT = {"django_content_type", "auth_permission"}  # the code's, not the data's


def empty_database(_test: Any = None) -> None:
    """Delete what the tables hold, once nobody writes to them any more."""
    tables = _tables()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE")
        cursor.execute(
            " UNION ALL ".join(
                f"SELECT '{table}' WHERE EXISTS (SELECT FROM {table})"
                for table in tables
            )
        )
        filled = [table for (table,) in cursor.fetchall()]
        # All of them go, so no trigger has anything to keep in step.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table in filled:
            cursor.execute(f"DELETE FROM {table}")


@functools.cache
def _tables() -> list[str]:
    names = connection.introspection.django_table_names(
        only_existing=True, include_views=False
    )
    return sorted(set(names) - KEPT)
