"""What each process loads, checked in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest
from django.conf import settings

SHOW = """
import sys, django
django.setup()
import reviewapp.urls, reviewapp.wsgi, reviewapp.tasks
print(*(name for name in {names!r} if name in sys.modules))
"""


def loaded(*names: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", SHOW.format(names=names)],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


@pytest.mark.slow
def test_the_web_process_never_loads_torch():
    assert loaded("torch", "torchvision", "onnxruntime", "plotly", "django") == [
        "django"
    ]
