"""The gate: may a candidate replace the baseline? Conditions, and reports for CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final
from xml.etree import ElementTree as ET

from reviewapp.templatetags.comparisons import p_value, points
from reviewapp.templatetags.hardmine import count, percent

SUITE: Final = "hardmine.gate"
COMPARABLE: Final = "comparable"  # the one test case when nothing could be compared
# What XML cannot hold, escaped or not.
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is asked of the candidate.

    Attributes:
        name: For reports.
        said: What was found and what is asked, for people.
        passed: Whether it holds.
    """

    name: str
    said: str
    passed: bool


def conditions_of(
    figures: dict[str, Any],
    *,
    max_regressions: int | None = None,
    min_gain: Decimal | None = None,
) -> list[Condition]:
    """Return what is asked of a candidate and whether it holds.

    Args:
        figures: From `figures_of`, or its figures without what was seen before.
        max_regressions: Samples that the baseline has right and the candidate wrong, at
            most; None: not asked.
        min_gain: Percentage points of accuracy that the candidate is better by, at
            least; below 0 it may be worse by so much. None: not asked.
    """
    found = []
    broken, n = figures["broken"], figures["samples"]
    if max_regressions is not None:
        found.append(
            Condition(
                "max-regressions",
                f"{count(broken)} broken, at most {count(max_regressions)} allowed",
                broken <= max_regressions,
            )
        )
    if min_gain is not None:
        gained = figures["fixed"] - broken
        found.append(
            Condition(
                "min-gain",
                f"{points(gained / n)} points, at least {min_gain:+} wanted",
                # Whole numbers: 0.1 + 0.2 must not decide.
                100 * gained >= min_gain * n,
            )
        )
    return found


def summary_of(figures: dict[str, Any]) -> list[str]:
    """Return the figures of a comparison in lines for a terminal."""
    difference = figures["difference"]
    before, after = figures["baseline"], figures["candidate"]
    p = p_value(difference["p"])
    accuracy = (
        f"{percent(before['accuracy'])} -> {percent(after['accuracy'])}, "
        f"{points(difference['value'])} points (95 % interval "
        f"{points(difference['low'])} to {points(difference['high'])}, "
        f"p {p if p.startswith('<') else f'= {p}'})"
    )
    samples = (
        f"{count(figures['samples'])}: {count(figures['fixed'])} fixed, "
        f"{count(figures['broken'])} broken "
        f"({percent(figures['negative_flip_rate'])} negative flips)"
    )
    return [
        f"accuracy  {accuracy}",
        f"macro-F1  {percent(before['macro_f1'])} -> {percent(after['macro_f1'])}",
        f"samples   {samples}",
    ]


def warnings_of(figures: dict[str, Any]) -> list[str]:
    """Return what to keep in mind with these figures."""
    said = []
    seen = figures["seen"]
    if seen["samples"]:
        said.append(
            f"{count(seen['samples'])} of these samples were seen before: "
            f"{count(seen['reviewed'])} reviewed, {count(seen['trained'])} trained on, "
            "copies and lookalikes included."
        )
    if seen["without"]:
        said += [
            "Without them:",
            *(f"  {line}" for line in summary_of(seen["without"])),
        ]
    if figures["left_out"]:
        said.append(f"{count(figures['left_out'])} samples differ and were left out.")
    if figures["unreadable"]:
        said.append(f"{count(figures['unreadable'])} could not be read by both scans.")
    return said


def result_of(conditions: Sequence[Condition]) -> str:
    """Return "pass" when every condition holds, else "fail"."""
    return "pass" if all(one.passed for one in conditions) else "fail"


def report_of(
    conditions: Sequence[Condition], figures: dict[str, Any], **facts: Any
) -> dict[str, Any]:
    """Return the report for JSON; `facts` say what was compared."""
    return {
        "result": result_of(conditions),
        **facts,
        "conditions": [asdict(one) for one in conditions],
        "figures": figures,
    }


def junit_of(conditions: Sequence[Condition], summary: str) -> bytes:
    """Return JUnit XML with a test case for each condition."""
    failed = [one for one in conditions if not one.passed]
    suite = _suite(len(conditions), failures=len(failed))
    for one in conditions:
        case = ET.SubElement(suite, "testcase", classname=SUITE, name=one.name)
        if not one.passed:
            ET.SubElement(case, "failure", message=_text(one.said)).text = _text(
                summary
            )
    ET.SubElement(suite, "system-out").text = _text(summary)
    return _bytes(suite)


def junit_of_refusal(message: str) -> bytes:
    """Return JUnit XML that says why nothing could be compared."""
    suite = _suite(1, errors=1)
    case = ET.SubElement(suite, "testcase", classname=SUITE, name=COMPARABLE)
    first = message.partition("\n")[0]
    ET.SubElement(case, "error", message=_text(first)).text = _text(message)
    return _bytes(suite)


def _suite(tests: int, *, failures: int = 0, errors: int = 0) -> ET.Element:
    return ET.Element(
        "testsuite",
        name=SUITE,
        tests=str(tests),
        failures=str(failures),
        errors=str(errors),
        skipped="0",
    )


def _bytes(suite: ET.Element) -> bytes:
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    written: bytes = ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    return written


def _text(said: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", said)
