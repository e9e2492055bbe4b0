"""What axe-core finds on a page."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.base import AXE_SCRIPT

# Nothing here needs the style sheets and media, which axe would fetch once more.
FOUND = """() => axe.run({resultTypes: ["violations"], preload: false}).then(
  ({violations}) => violations.filter(
    ({impact}) => ["serious", "critical"].includes(impact)))"""


def problems_of(page: Any) -> list[str]:
    """Return the serious and critical violations of a page, each with its elements."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    return [
        f"{rule['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for rule in page.evaluate(FOUND)
        for node in rule["nodes"]
    ]
