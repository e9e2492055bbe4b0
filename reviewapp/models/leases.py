"""The lease: how long a worker may be silent before its work is given to another."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings as conf
from django.utils import timezone


def a_lease_ago() -> datetime:
    """Return the moment since which whoever was not heard of is lost."""
    return timezone.now() - timedelta(seconds=conf.SHARD_LEASE_SECONDS)
