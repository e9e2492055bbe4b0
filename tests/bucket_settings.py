"""Settings of a worker whose data sets and checkpoints lie in buckets."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

DATA_ROOTS = ["s3://cells", "s3://forbidden"]
MODEL_ROOTS = ["s3://models"]
