"""Analyses of a scan: what they compute, and that each is made once."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.utils import timezone

from reviewapp import analysing, tasks
from reviewapp.actions.analyses import (
    analyse_new_scans,
    requeue_silent_analyses,
    run_analysis,
    start_analyses,
)
from reviewapp.attributes import MOST, column_of, read_attributes
from reviewapp.exceptions import Refused
from reviewapp.models import Analysis, Event, Scan
from tests import factories
from tests.analysing import Seen, add_scan

WHAT = Analysis.What


def made(scan: Scan, what: str) -> Analysis:
    start_analyses(scan=scan, by=None)
    return run_analysis(analysis=scan.analyses.get(what=what))


def night(n: int = 200, **fields) -> list[Seen]:
    """Return n samples, the darkest quarter of them mostly wrong."""
    return [
        Seen(
            0,
            1 if (i < n // 4) == (i % 10 > 0) else 0,
            brightness=i / n,
            p_true=i / n / 10,
            **fields,
        )
        for i in range(n)
    ]


def test_calibration_errors_are_those_of_the_definition(version) -> None:
    """Bins of a fifteenth: 0.9 lies in (13/15, 14/15], 0.62 in (9/15, 10/15]."""
    seen = [Seen(0, 0, 0.9)] * 7 + [Seen(0, 1, 0.9)] * 3 + [Seen(1, 1, 0.62)] * 10
    found = made(add_scan(version, [*seen, Seen(0, None)]), WHAT.THRESHOLDS)
    assert found.state == "done", found.message
    assert (found.figures["samples"], found.figures["errors"]) == (20, 3)
    assert found.figures["unreadable"] == 1
    for binning in ("width", "mass"):
        diagram = found.figures["reliability"][binning]
        assert diagram["error"] == pytest.approx((0.2 + 0.38) / 2, abs=1e-6)
        assert diagram["largest"] == pytest.approx(0.38, abs=1e-6)
        low, high = diagram["bins"]
        assert (low["samples"], low["accuracy"]) == (10, 1.0)
        assert (high["samples"], high["accuracy"]) == (10, 0.7)
        assert high["low"] < 0.7 < high["high"]


def test_calibration_errors_are_those_of_torchmetrics(version) -> None:
    """What multiclass_calibration_error of torchmetrics 1.9 gives, norms l1 and max."""
    seen = [
        Seen(
            n % 3,
            (n % 3 + (n * n * 13 % 300 >= 220)) % 3,
            float(np.float32((n * 37 % 300 + 0.5) / 600 + 0.5)),
        )
        for n in range(300)
    ]
    found = made(add_scan(version, seen), WHAT.THRESHOLDS)
    diagram = found.figures["reliability"]["width"]
    assert diagram["error"] == pytest.approx(0.1277777999639511, abs=1e-6)
    assert diagram["largest"] == pytest.approx(0.23333346843719482, abs=1e-6)


def test_a_scan_of_unreadable_images_has_no_diagram(version) -> None:
    scan = add_scan(version, [Seen(0, None)] * 3)
    found = made(scan, WHAT.THRESHOLDS)
    assert (found.state, found.figures["samples"]) == ("done", 0)
    assert found.figures["reliability"] is None
    slices = made(scan, WHAT.SLICES).figures
    assert (slices["drawn"], slices["tables"], slices["leaves"]) == (0, [], [])


def test_what_goes_with_errors_is_found_and_beyond_luck(version) -> None:
    scan = add_scan(version, night())
    figures = made(scan, WHAT.SLICES).figures
    table = figures["tables"][0]
    assert (table["attribute"], table["p"] < 1e-6) == ("brightness", True)
    dark = table["slices"][0]
    assert (dark["from"], dark["to"]) == (0, pytest.approx(0.195))
    assert dark["size"] == 40
    assert dark["errors"] == 36
    assert dark["covered"] == pytest.approx(36 / figures["errors"])
    first = figures["leaves"][0]
    assert first["p"] == 0.005
    [condition] = first["conditions"]
    assert (condition["attribute"], condition["sign"]) == ("brightness", "<=")
    # The hardest errors of the slice, the lowest p(true) first.
    rows = list(scan.dataset.samples.order_by("pk").values_list("pk", flat=True))
    wrong = [rows[i] for i in range(40) if i % 10 > 0]
    assert dark["hardest"] == wrong[:12] == first["hardest"]


def test_luck_is_no_finding(version) -> None:
    random = np.random.default_rng(3)
    seen = [
        Seen(0, int(random.random() < 0.2), brightness=random.random())
        for _ in range(300)
    ]
    figures = made(add_scan(version, seen), WHAT.SLICES).figures
    assert all(table["p"] > 0.05 for table in figures["tables"])
    assert len(figures["leaves"]) == 1


def test_attributes_of_the_manifest_are_parted(version) -> None:
    seen = [
        Seen(
            0, int(i % 4 == 0), brightness=None, attributes={"camera": "AB"[i % 4 > 0]}
        )
        for i in range(80)
    ]
    figures = made(add_scan(version, seen), WHAT.SLICES).figures
    assert (figures["looks"], figures["attributes"]) == (0, 80)
    [table] = figures["tables"]
    by_value = {row["value"]: row for row in table["slices"]}
    assert table["attribute"] == "camera"
    assert (by_value["A"]["errors"], by_value["A"]["rate"]) == (20, 1.0)
    assert by_value["A"]["covered"] == 1.0
    assert by_value["B"]["errors"] == 0
    assert by_value["A"]["p"] < 0.001 < by_value["B"]["p"]


def test_images_known_of_the_errors_alone_explain_nothing(version) -> None:
    """As after a GPU decoded: whatever is known would look like a cause."""
    seen = [
        Seen(0, int(i < 20), brightness=i / 60 if i < 20 else None) for i in range(60)
    ]
    figures = made(add_scan(version, seen), WHAT.SLICES).figures
    assert (figures["looks"], figures["drawn"]) == (20, 60)
    assert figures["tables"] == []


def test_of_many_samples_some_are_drawn_the_same_ones_each_time(
    version, monkeypatch
) -> None:
    scan = add_scan(version, night())
    monkeypatch.setattr(analysing, "MOST_SAMPLES", 150)
    first = made(scan, WHAT.SLICES).figures
    assert (first["samples"], first["drawn"]) == (200, 150)
    assert sum(row["size"] for row in first["tables"][0]["slices"]) == 150
    assert made(scan, WHAT.SLICES).figures == first


def test_an_attribute_called_as_a_property_is_told_apart(version) -> None:
    seen = [
        Seen(0, int(i % 2), brightness=i / 40, attributes={"brightness": "ab"[i % 2]})
        for i in range(40)
    ]
    tables = made(add_scan(version, seen), WHAT.SLICES).figures["tables"]
    assert {"brightness", "brightness (manifest)"} == {t["attribute"] for t in tables}


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (["1", "x", ""], ["1", "x", None]),
        ([True, False, None], ["true", "false", None]),
        ([1, 2.5, None], [1.0, 2.5, np.nan]),
        (["1", "2", "3"], ["1", "2", "3"]),  # few: rather names
        ([1, "a"], ["1", "a"]),
        (["inf", "1"] * 20, ["inf", "1"] * 20),
        ([str(n) for n in range(30)], [float(n) for n in range(30)]),
        (["x" * 300, "y"], ["x" * 200, "y"]),
        ([f"2024_{n % 25}" for n in range(50)], [f"2024_{n % 25}" for n in range(50)]),
        ([10**400, 1], [str(10**400)[:200], "1"]),
    ],
)
def test_values_become_numbers_or_texts(values, column) -> None:
    found, why = column_of(values)
    assert why == ""
    np.testing.assert_array_equal(np.array(found), np.array(column))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a", "a"], "the same for every sample"),
        ([None, ""], "the same for every sample"),
        ([[1], "a"], "lists or tables"),
        ([f"name {n}" for n in range(30)], "its own value"),
    ],
)
def test_it_says_why_an_attribute_is_left_out(values, said) -> None:
    found, why = column_of(values)
    assert found is None
    assert said in why


def test_only_so_many_attributes_are_held(dataset, labels) -> None:
    attributes = {f"a{n:03d}": n for n in range(MOST + 2)}
    samples = [
        factories.SampleFactory(label=labels[0], attributes=given)
        for given in (attributes, {"a000": 7}, {})
    ]
    found = read_attributes(dataset, np.array([sample.pk for sample in samples]))
    assert len(found.columns) == MOST
    assert len(found.left_out) == 2
    assert found.samples == 2
    np.testing.assert_array_equal(found.columns["a000"], [0, 7, np.nan])


def test_figures_are_json_without_nan(version) -> None:
    seen = [Seen(0, i % 2, attributes={"n": i if i % 3 else None}) for i in range(60)]
    for what in WHAT:
        figures = made(add_scan(version, seen), what).figures
        json.dumps(figures, allow_nan=False)


def test_it_refuses_a_scan_that_is_not_done(version) -> None:
    scan = factories.ScanFactory(model_version=version, state="running")
    with pytest.raises(Refused, match="running"):
        start_analyses(scan=scan, by=None)
    assert not Analysis.objects.exists()


def test_a_lost_artefact_is_said_and_what_was_found_stays(version, caplog) -> None:
    scan = add_scan(version, night(40))
    before = made(scan, WHAT.THRESHOLDS)
    default_storage.delete(scan.artefact)
    after = made(scan, WHAT.THRESHOLDS)
    assert after.state == "failed"
    assert "not in the storage any more" in after.message
    assert "Bring" in after.message
    assert (after.figures, bytes(after.counts)) == (
        before.figures,
        bytes(before.counts),
    )


def test_a_damaged_artefact_is_said(version, caplog) -> None:
    scan = add_scan(version, night(40))
    with default_storage.open(scan.artefact, "wb") as file:
        file.write(b"PAR1 cut off")
    for what in WHAT:
        found = made(scan, what)
        assert (found.state, found.figures) == ("failed", {})
        assert "cannot be read" in found.message


def test_two_messages_make_one_analysis(version, monkeypatch) -> None:
    calls = []
    real = analysing.thresholds_of

    def counted(scan):
        calls.append(scan.pk)
        return real(scan)

    monkeypatch.setattr("reviewapp.actions.analyses.thresholds_of", counted)
    scan = add_scan(version, night(40))
    analysis = made(scan, WHAT.THRESHOLDS)
    tasks.run_analysis(analysis.pk)
    tasks.run_analysis(0)  # of a scan that was deleted
    assert calls == [scan.pk]


def test_one_that_was_given_up_writes_nothing(version, monkeypatch) -> None:
    scan = add_scan(version, night(40))
    start_analyses(scan=scan, by=None)
    analysis = scan.analyses.get(what=WHAT.THRESHOLDS)
    real = analysing.thresholds_of

    def slow(of):
        Analysis.objects.filter(pk=analysis.pk).update(heartbeat_at=timezone.now())
        return real(of)

    monkeypatch.setattr("reviewapp.actions.analyses.thresholds_of", slow)
    assert run_analysis(analysis=analysis).state == "running"
    assert analysis.figures == {}


def test_new_scans_are_analysed_by_themselves_once(version, monkeypatch) -> None:
    now = timezone.now()
    fields = {"finished_at": now}
    scan = add_scan(version, night(40), **fields)
    add_scan(version, night(40), finished_at=now - timedelta(days=2))
    factories.ScanFactory(model_version=version, **fields)  # without an artefact
    factories.ScanFactory(
        model_version=version, state="partial", artefact="x", **fields
    )
    sent = []
    monkeypatch.setattr(tasks, "_send", lambda task, pks, **_: sent.extend(pks))
    tasks.finish_scan(scan.pk)
    rows = list(scan.analyses.order_by("-what").values_list("pk", "what"))
    assert [what for _, what in rows] == ["thresholds", "slices"]
    assert sent == [pk for pk, _ in rows]
    assert Analysis.objects.count() == 2
    assert analyse_new_scans() == []


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_hangs_while_it_queues_them_stops_nobody(version, caplog) -> None:
    scan = add_scan(version, night(40), finished_at=timezone.now())
    queued = threading.Event()

    def queue_and_hang() -> None:
        try:
            with transaction.atomic():
                analyse_new_scans()
                queued.set()
                done.wait(60)
        finally:
            connection.close()

    done = threading.Event()
    frozen = threading.Thread(target=queue_and_hang)
    frozen.start()
    try:
        assert queued.wait(60)
        assert analyse_new_scans() == []
        assert f"the analyses of scans [{scan.pk}] are being made" in caplog.text
    finally:
        done.set()
        frozen.join()
    assert scan.analyses.count() == 2


def test_lost_work_is_sent_again(version, settings) -> None:
    scan = add_scan(version, night(40))
    start_analyses(scan=scan, by=None)
    assert requeue_silent_analyses() == []
    long_ago = timezone.now() - timedelta(hours=1)
    first, second = scan.analyses.order_by("pk")
    Analysis.objects.filter(pk=first.pk).update(requested_at=long_ago)
    Analysis.objects.filter(pk=second.pk).update(
        state="running", heartbeat_at=long_ago, requested_at=long_ago
    )
    assert requeue_silent_analyses() == [first.pk, second.pk]
    assert run_analysis(analysis=second).state == "done"


def test_asking_leaves_an_event(version, rita) -> None:
    scan = add_scan(version, night(40))
    start_analyses(scan=scan, by=rita)
    event = Event.objects.newest_first().first()
    assert (event.action, event.object_id, event.actor) == (
        "analysis started",
        scan.pk,
        rita,
    )
