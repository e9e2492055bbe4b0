"""The whole loop with real parts: images, servers, a worker process, Chromium.

What comes out is compared with a computation of its own by NumPy and scikit-learn.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

from reviewapp.models import Confusion, Finding, Review, Scan, User
from tests import factories, scanning
from tests.flows.worker import wait_for, worker
from tests.images import write_linear_model

N_TEST = 300


@dataclass
class Digits:
    """Digits as files, a model of them, and what the model says by NumPy alone."""

    root: Path
    checkpoint: Path
    true: np.ndarray  # (N,)
    probabilities: np.ndarray  # (N, 10)
    keys: list[str]

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(axis=1)

    @property
    def errors(self) -> dict[str, tuple[int, int, float]]:
        """Return key -> (true, predicted, p_true) of every error."""
        rows = zip(
            self.keys, self.true, self.predicted, self.probabilities, strict=True
        )
        return {
            key: (int(t), int(p), float(probabilities[t]))
            for key, t, p, probabilities in rows
            if t != p
        }


@pytest.fixture
def digits(data_root: Path, model_root: Path) -> Digits:
    bunch = load_digits()
    grey = (bunch.images * 15).astype(np.uint8)  # 0-16 -> 0-240
    x = grey.reshape(len(grey), -1).astype(np.float32) / np.float32(255)
    # Trained on little, so that there are errors to find.
    model = LogisticRegression(C=0.05, max_iter=500).fit(x[:200], bunch.target[:200])
    keys = []
    for i in range(len(grey) - N_TEST, len(grey)):
        key = f"test/{bunch.target[i]}/{i:04d}.png"
        (data_root / "digits" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey[i]).save(data_root / "digits" / key)
        keys.append(key)
    checkpoint = write_linear_model(
        model_root / "digits.onnx",
        model.coef_,
        model.intercept_,
        [str(c) for c in model.classes_],
    )
    return Digits(
        root=data_root / "digits",
        checkpoint=checkpoint,
        true=bunch.target[-N_TEST:],
        probabilities=model.predict_proba(x[-N_TEST:]),
        keys=keys,
    )


def expected_line(digits: Digits, finding: Finding, verdict: str, label: int) -> dict:
    true, predicted, p_true = digits.errors[finding.sample.key]
    return {
        "sample_key": finding.sample.key,
        "split": "test",
        "original_label": str(true),
        "true_label": str(true),
        "label": str(label),
        "predicted": str(predicted),
        "verdict": verdict,
        "p_true": p_true,
        "reviewer": "admin",
    }


def check_findings(scan: Scan, digits: Digits) -> None:
    """Check the scan against the independent computation: errors, counts, p_true."""
    assert (scan.samples, scan.errors) == (N_TEST, len(digits.errors))
    found = {
        s.finding.sample.key: (
            int(s.finding.true_label.name),
            int(s.finding.predicted_label.name),
            s.p_true,
        )
        for s in scan.sightings.select_related(
            "finding__sample", "finding__true_label", "finding__predicted_label"
        )
        if s.finding.kind == Finding.Kind.MISCLASSIFIED
    }
    assert found.keys() == digits.errors.keys()
    for key, (true, predicted, p_true) in digits.errors.items():
        assert found[key][:2] == (true, predicted)
        assert found[key][2] == pytest.approx(p_true, abs=1e-4)
    counts = np.zeros((10, 10), dtype=int)
    for count in scan.confusion_counts.all():
        counts[int(count.true_label.name), int(count.predicted_label.name)] = (
            count.count
        )
    assert (counts == confusion_matrix(digits.true, digits.predicted)).all()


def scan_from_the_page(page) -> Scan:
    page.goto("/datasets/digits/scans/new/")
    page.select_option("[name=split]", "test")
    page.get_by_text("More settings").click()
    page.select_option("[name=precision]", "float32")
    page.click("main form[method=post] button[type=submit]")
    page.wait_for_url("**/scans/*/")
    wait_for(lambda: Scan.objects.get().state not in Scan.ACTIVE, every=0.2)
    page.get_by_text("done", exact=True).first.wait_for()
    return Scan.objects.get()


def review_three_and_undo_one(page) -> list[Finding]:
    """Confirm, relabel to the prediction, dismiss and undo, all by keys."""
    first, second, third = Finding.objects.waiting().misclassified().hardest_first()[:3]
    page.goto("/datasets/digits/review/?order=hardest")
    page.get_by_role("button", name="Start reviewing").click()
    page.wait_for_selector(f"html.is-ready #desk[data-finding='{first.pk}']")
    page.keyboard.press("c")
    page.wait_for_selector(f"#desk[data-finding='{second.pk}']")
    page.keyboard.press("r")
    page.keyboard.press("Enter")  # the prediction is preselected
    page.wait_for_selector(f"#desk[data-finding='{third.pk}']")
    page.keyboard.press("d")
    page.wait_for_selector(f"#desk:not([data-finding='{third.pk}'])")
    wait_for(lambda: Review.objects.count() == 3)
    page.keyboard.press("u")
    page.wait_for_selector(f"#desk[data-finding='{third.pk}']")
    wait_for(lambda: Review.objects.standing().count() == 2)
    return [first, second, third]


def freeze_and_download(page, path: Path) -> list[dict[str, str]]:
    page.goto("/datasets/digits/fixsets/new/")
    page.fill("[name=name]", "first fixes")
    for box in page.locator("[name=include]").all():
        box.check()
    page.get_by_role("button", name="Freeze").click()
    page.wait_for_url("**/fixsets/*/")
    page.select_option("#export-format", "csv")
    page.get_by_role("button", name="Export").click()
    link = page.get_by_role("link", name="Download")
    link.wait_for(timeout=60_000)
    with page.expect_download() as download:
        link.click()
    download.value.save_as(path)
    with path.open(newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: row["sample_key"])


def check_lines(
    lines: list[dict[str, str]], digits: Digits, confirmed: Finding, relabelled: Finding
) -> None:
    """Check the CSV line by line against the independent computation."""
    true, _, _ = digits.errors[confirmed.sample.key]
    _, predicted, _ = digits.errors[relabelled.sample.key]
    expected = sorted(
        [
            expected_line(digits, confirmed, "confirm", true),
            expected_line(digits, relabelled, "relabel", predicted),
        ],
        key=lambda row: row["sample_key"],
    )
    assert len(lines) == len(expected)
    for line, wanted in zip(lines, expected, strict=True):
        assert float(line["p_true"]) == pytest.approx(wanted.pop("p_true"), abs=1e-4)
        assert {name: line[name] for name in wanted} == wanted


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_from_a_folder_of_images_to_an_exported_fix_set(
    digits: Digits, sign_in, tmp_path
):
    admin: User = factories.UserFactory(username="admin", is_staff=True)
    assert len(digits.errors) >= 10
    with worker():
        dataset = scanning.register(digits.root, admin, name="Digits")
        scanning.add_version(dataset, digits.checkpoint, name="logistic")
        page = sign_in(admin)
        scan = scan_from_the_page(page)
        assert scan.state == Scan.State.DONE, scan.message
        check_findings(scan, digits)
        queue = review_three_and_undo_one(page)
        states = [Finding.objects.get(pk=f.pk).review_state for f in queue]
        assert states == ["confirmed", "relabelled", "open"]
        assert Review.objects.count() == 3
        assert Review.objects.standing().count() == 2
        lines = freeze_and_download(page, tmp_path / "fixes.csv")
    check_lines(lines, digits, queue[0], queue[1])
    check_history(digits)
    assert page.problems == []


def check_history(digits: Digits) -> None:
    """Check that the ledger has each confusion with the count of the scan."""
    history = {
        (int(line.true_label.name), int(line.predicted_label.name)): line.peak
        for line in Confusion.objects.with_names()
    }
    matrix = confusion_matrix(digits.true, digits.predicted)
    np.fill_diagonal(matrix, 0)
    pairs = zip(*matrix.nonzero(), strict=True)
    assert history == {(t, p): matrix[t, p] for t, p in pairs}
