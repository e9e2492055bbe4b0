"""The documentation names what exists, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import find_commands, get_commands

from reviewapp.api.urls import below

ROOT = Path(settings.BASE_DIR)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES if page.exists())
STAGES = (
    "datasets",
    "models",
    "scanning",
    "reviewing",
    "exporting",
    "deploying",
    "api",
)


def variables() -> set[str]:
    source = (ROOT / "reviewapp/settings.py").read_text()
    return set(re.findall(r'\benv\.\w+\(\s*"([A-Z_]+)"', source))


def documented_variables() -> set[str]:
    rows = (ROOT / "docs/deploying.md").read_text().partition("## Environment")[2]
    table = "\n".join(line for line in rows.splitlines() if line.startswith("| `"))
    return {name for line in table.splitlines() for name in [line.split("`")[1]]}


def test_every_environment_variable_is_documented_and_none_else() -> None:
    assert len(variables()) >= 15  # the pattern still finds them
    assert documented_variables() == variables()


@pytest.mark.parametrize(
    "name", sorted(find_commands(str(ROOT / "reviewapp/management")))
)
def test_every_command_is_documented(name: str) -> None:
    alias = {"demo": "make demo", "demo_loop": "make demo-loop"}.get(
        name, f"manage.py {name}"
    )
    assert alias in TEXT


def test_every_command_in_the_documentation_exists() -> None:
    named = set(re.findall(r"manage\.py ([a-z_]+)", TEXT))
    assert "scan" in named
    assert named <= set(get_commands())


def test_every_make_target_in_the_documentation_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z.]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^ {4})(?:[A-Z_]+=\S+ )*make ([a-z.]+)", TEXT, re.M))
    assert "demo" in named
    assert named <= targets


@pytest.mark.parametrize("stage", STAGES)
def test_there_is_a_page_for_every_stage_and_the_readme_links_it(stage: str) -> None:
    page = ROOT / "docs" / f"{stage}.md"
    assert page.exists()
    assert len(page.read_text().splitlines()) < 120
    assert f"(docs/{stage}.md)" in (ROOT / "README.md").read_text()


def test_every_route_below_a_data_set_is_in_the_table_of_the_api() -> None:
    text = (ROOT / "docs/api.md").read_text()
    table = text.partition("## Routes")[2].partition("## ")[0]
    named = {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([a-z-]+)/`", line.split("|")[1])
    }
    assert named == {prefix for prefix, _, _ in below.registry}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_names_the_two_commands_that_ci_and_newcomers_run() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme
    assert (
        "make check\nHARDMINE_REQUIRE_BROWSER=1 make test\n"
        in (ROOT / ".ci/run").read_text()
    )
