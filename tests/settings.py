"""Settings of the tests: real servers of their own under var/test, no fsync."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_base = Path(__file__).resolve().parent.parent
os.environ.setdefault("HARDMINE_VAR", str(_base / "var" / "test"))
os.environ.setdefault("HARDMINE_DURABLE", "off")
os.environ.setdefault("HARDMINE_HTTPS", "off")
# A folder of its own for each test process; the workers it starts inherit it.
if "HARDMINE_TEST_FILES" not in os.environ:
    os.environ["HARDMINE_TEST_FILES"] = tempfile.mkdtemp(prefix="hardmine-test-")
    atexit.register(
        shutil.rmtree, os.environ["HARDMINE_TEST_FILES"], ignore_errors=True
    )
_parent = os.environ["HARDMINE_TEST_FILES"]
_files = str(Path(_parent) / os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
os.environ["HARDMINE_DATA_ROOTS"] = f"{_files}/data,memory://data"
os.environ["HARDMINE_MODEL_ROOTS"] = f"{_files}/models,memory://models"

from reviewapp.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MEDIA_ROOT = Path(_files) / "media"
FILES = Path(_files)
CELERY_TASK_ALWAYS_EAGER = False
# The suite may run in several processes: each has its own keys in the cache.
CACHES["default"]["KEY_PREFIX"] = f"test-{os.getpid()}"  # noqa: F405
# A broker of its own for each process, so that no worker sees another's tasks.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
if "virtual_host" in CELERY_BROKER_URL:  # noqa: F405
    CELERY_BROKER_URL = CELERY_BROKER_URL.replace(  # noqa: F405
        "virtual_host=0", f"virtual_host={int(_worker) % 14 + 1}"
    )
# Two test runs at once on one machine do not meet.
DATABASES["default"]["TEST"] = {"NAME": f"test_hardmine_{os.getpid()}"}  # noqa: F405
