from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import mining

MODULES = [
    module.name
    for module in pkgutil.walk_packages(mining.__path__, "mining.")
    if module.name != "mining.__main__"
]
FOR_THE_WEB = (
    "agreement", "artefact", "compare", "confusion", "evidence", "exceptions", "exemplars", "exports", "fixset", "guards",
    "images", "label_quality", "lookalikes", "ordering", "outliers", "pace", "pairing", "ranker",
    "recipe", "recipe_making",
    "slice_tree", "slices", "sources", "specs", "statistics", "threads", "thresholds",
    "thumbnails", "training.folds", "training.settings", "types",
)  # fmt: skip


def test_what_the_web_process_imports_does_not_load_torch():
    names = [f"mining.{name}" for name in FOR_THE_WEB]
    code = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_mining_does_not_load_the_web():
    code = (
        f"import sys, {', '.join(MODULES)};"
        " print([name for name in ('django', 'celery', 'reviewapp') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_there_are_examples_at_all():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [
        test.name
        for name in MODULES
        for test in finder.find(importlib.import_module(name))
        if test.examples
    ]
    assert len(found) >= 10
