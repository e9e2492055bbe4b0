"""The gate: 0 open, 1 closed, 2 no answer; and what it leaves for a pipeline."""

from __future__ import annotations

import json
from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError

from reviewapp.gating import conditions_of, junit_of, junit_of_refusal
from reviewapp.models import Comparison, Scan
from tests import factories
from tests.comparing import add_samples, add_scan, lose


@pytest.fixture
def later(registered_model, version):
    return factories.ModelVersionFactory(registered_model=registered_model)


@pytest.fixture
def samples(labels):
    return add_samples(labels, "ccccddddff")


@pytest.fixture
def scans(version, later, samples) -> tuple[Scan, Scan]:
    """Two fixed, one broken: 6 and 7 of 10 right."""
    return (
        add_scan(version, samples, "ccdddddfcf"),
        add_scan(later, samples, "cdcdddddcf"),
    )


@pytest.fixture
def gate(scans, capsys, tmp_path):
    """Return the exit status, what was printed, and the two reports."""

    def gate(*asked: str, candidate="", baseline=""):
        paths = tmp_path / "gate.json", tmp_path / "gate.xml"
        given = [
            f"--candidate={candidate or scans[1].pk}",
            f"--baseline={baseline or scans[0].pk}",
            f"--json={paths[0]}",
            f"--junit={paths[1]}",
        ]
        status, message = 0, ""
        try:
            call_command("gate", *given, *asked)
        except CommandError as error:
            status, message = error.returncode, str(error)
        printed = capsys.readouterr().out + message
        return (
            status,
            printed,
            json.loads(paths[0].read_text()),
            ET.parse(paths[1]).getroot(),
        )

    return gate


def test_it_is_open_when_every_condition_holds(gate, scans) -> None:
    status, printed, report, junit = gate("--max-regressions=1", "--min-gain=10")
    assert status == 0
    assert "60.0 % -> 70.0 %, +10.0 points" in printed
    assert "2 fixed, 1 broken (10.0 % negative flips)" in printed
    assert "PASS  max-regressions: 1 broken, at most 1 allowed" in printed
    assert "PASS  min-gain: +10.0 points, at least +10 wanted" in printed
    assert report["result"] == "pass"
    assert (report["baseline"], report["candidate"]) == (scans[0].pk, scans[1].pk)
    assert [one["passed"] for one in report["conditions"]] == [True, True]
    assert report["figures"]["fixed"] == 2
    [suite] = junit
    assert (suite.get("tests"), suite.get("failures")) == ("2", "0")
    names = [case.get("name") for case in suite.iter("testcase")]
    assert names == ["max-regressions", "min-gain"]
    assert not Comparison.objects.exists()  # a pipeline leaves nothing behind


def test_it_is_closed_when_one_does_not(gate) -> None:
    status, printed, report, junit = gate("--max-regressions=0", "--min-gain=-5")
    assert status == 1
    assert "FAIL  max-regressions: 1 broken, at most 0 allowed" in printed
    assert "PASS  min-gain" in printed
    assert report["result"] == "fail"
    [suite] = junit
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    [failure] = suite.iter("failure")
    assert failure.get("message") == "1 broken, at most 0 allowed"
    assert "60.0 % -> 70.0 %" in failure.text


@pytest.mark.parametrize(
    ("candidate", "asked", "why"),
    [
        ("999999", "--min-gain=0", "no finished scan 999999"),
        ("resnet:7", "--min-gain=0", "no finished scan resnet:7"),
        ("resnet", "--min-gain=0", "neither the id of a scan nor model:version"),
        ("resnet:", "--min-gain=0", "neither the id of a scan nor model:version"),
        ("\udcff", "--min-gain=0", "neither the id of a scan nor model:version"),
        ("²", "--min-gain=0", "neither the id of a scan nor model:version"),
        ("", "--labels=corrected", "nothing is asked"),
        ("", "--dataset=unknown", "nothing is asked"),
    ],
)
def test_without_an_answer_it_ends_with_2(gate, candidate, asked, why) -> None:
    status, printed, report, junit = gate(asked, candidate=candidate)
    assert status == 2
    assert why in printed
    assert report["result"] == "error"
    assert why in report["message"]
    [suite] = junit
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


def test_an_unknown_data_set_is_no_answer(gate) -> None:
    status, printed, _, _ = gate("--min-gain=0", "--dataset=unknown")
    assert status == 2
    assert "There are: animals" in printed


def test_other_samples_are_no_answer_unless_the_common_ones_will_do(
    gate, later, samples
) -> None:
    fewer = add_scan(later, samples[:8], "cdcddddd")
    status, printed, _, junit = gate("--min-gain=0", candidate=fewer.pk)
    assert status == 2
    assert "only in baseline: 2" in printed
    [error] = junit.iter("error")
    assert error.get("message").startswith("The two cannot be compared")
    status, printed, _, _ = gate("--min-gain=0", "--common", candidate=fewer.pk)
    assert status == 0
    assert "2 samples differ and were left out." in printed


def test_a_lost_artefact_or_database_is_no_answer(gate, scans, monkeypatch) -> None:
    lose(scans[0])
    assert gate("--min-gain=0")[0] == 2

    def gone(**options):
        raise OperationalError("the server closed the connection")

    monkeypatch.setattr("reviewapp.management.commands.gate.compare_scans", gone)
    status, printed, _, _ = gate("--min-gain=0")
    assert (status, "server closed" in printed) == (2, True)


def test_a_version_stands_for_its_last_scan_of_the_same_split(
    gate, scans, version, later, samples
) -> None:
    add_scan(later, samples[:2], "cc", split="val")  # newer, but there is no pair to it
    add_scan(version, samples, "-" * 10, state="cancelled")
    _, _, report, _ = gate("--min-gain=0", candidate="resnet:2", baseline="resnet:1")
    assert (report["candidate"], report["baseline"]) == (scans[1].pk, scans[0].pk)
    rescan = add_scan(version, samples, "ccdddddfcf")
    _, _, report, _ = gate("--min-gain=0", candidate="resnet:2", baseline="resnet:1")
    assert (report["candidate"], report["baseline"]) == (scans[1].pk, rescan.pk)


def test_a_name_in_two_data_sets_asks_for_the_data_set(gate, charlie) -> None:
    other = factories.RegisteredModelFactory(
        dataset=charlie.memberships.get().dataset, name="resnet"
    )
    twin = factories.ModelVersionFactory(
        registered_model=other, number=2, checkpoint="x"
    )
    factories.ScanFactory(model_version=twin)
    status, printed, _, _ = gate("--min-gain=0", candidate="resnet:2")
    assert (status, "Name one: --dataset" in printed) == (2, True)
    assert gate("--min-gain=0", "--dataset=animals", candidate="resnet:2")[0] == 0


def test_seen_samples_are_told_and_can_be_left_out(
    gate, samples, labels, registered_model
) -> None:
    for place in (2, 7):  # both of those that are fixed
        factories.FindingFactory(
            sample=samples[place],
            predicted_label=labels[0] if place == 7 else labels[1],
            registered_model=registered_model,
            review_state="confirmed",
        )
    status, printed, _, _ = gate("--min-gain=0")
    assert status == 0
    assert "2 of these samples were seen before: 2 reviewed, 0 trained on" in printed
    assert "Without them:" in printed
    status, printed, _, _ = gate("--min-gain=0", "--without-seen")
    assert status == 1
    assert "FAIL  min-gain: \N{MINUS SIGN}12.5 points, at least +0 wanted" in printed


def test_without_seen_needs_others(gate, samples, labels, registered_model) -> None:
    for sample in samples:
        factories.FindingFactory(
            sample=sample,
            predicted_label=labels[0],
            registered_model=registered_model,
            review_state="dismissed",
        )
    status, printed, _, _ = gate("--min-gain=0", "--without-seen")
    assert (status, "none is left" in printed) == (2, True)


@pytest.mark.parametrize(
    "asked",
    ["--max-regressions=-1", "--min-gain=nan", "--min-gain=101", "--min-gain=x"],
)
def test_a_condition_that_is_no_number_is_refused(scans, asked) -> None:
    with pytest.raises(CommandError, match="is not a"):
        call_command("gate", "--candidate=1", "--baseline=2", asked)


def test_a_report_that_cannot_be_written_is_no_answer(scans, tmp_path) -> None:
    path = tmp_path / "there" / "gate.json"
    with pytest.raises(CommandError, match=r"gate\.json could not be written") as error:
        call_command(
            "gate",
            f"--candidate={scans[1].pk}",
            f"--baseline={scans[0].pk}",
            "--min-gain=0",
            f"--json={path}",
        )
    assert error.value.returncode == 2


def test_the_gain_is_held_against_the_limit_without_rounding() -> None:
    figures = {"samples": 1000, "fixed": 3, "broken": 0}

    def holds(gain: str) -> bool:
        [one] = conditions_of(figures, min_gain=Decimal(gain))
        return one.passed

    assert [holds("0.3"), holds("0.30000000000000001")] == [True, False]
    assert conditions_of(figures) == []


def test_junit_holds_any_name() -> None:
    odd = 'a <b> & "c" \x00\x0b\ud800'
    root = ET.fromstring(junit_of_refusal(odd))
    [error] = root.iter("error")
    assert error.text.startswith('a <b> & "c" \ufffd')
    [one] = conditions_of({"samples": 1, "fixed": 0, "broken": 1}, max_regressions=0)
    assert b"\x0b" not in junit_of([one], odd)
