"""The progress bar of the commands."""

from __future__ import annotations

import re
import sys
from io import StringIO

import pytest
from django.core.management.base import OutputWrapper

from reviewapp.management.meter import Meter


def test_a_bar_is_for_terminals_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def count() -> str:
        out = StringIO()
        with Meter(OutputWrapper(out), "Scanning [v2]", 900, done=300) as meter:
            meter.note("cpu, bfloat16")
            meter.reach(600)
        return out.getvalue()

    assert re.fullmatch(r"Scanning \[v2\]: 600 in [\d.]+ s\n", count())
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert count() == ""
    shown = capsys.readouterr().err
    assert "Scanning [v2] " in shown
    assert "600/900" in shown
    assert "cpu, bfloat16" in shown
