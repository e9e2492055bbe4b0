"""Every page at two sizes and in two schemes: nothing overflows, nothing complains.

With HARDMINE_SCREENSHOTS=folder the pictures are kept there.
"""

from __future__ import annotations

from pathlib import Path

import elpv_dataset
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression

from mining.specs import read_spec, write_spec
from mining.types import ModelSpec, Preprocessing
from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.models import Confusion, Dataset, Finding, Scan, User, Verdict
from tests import factories, scanning
from tests.browser.holding import problems_at_all_sizes
from tests.images import SIDE, write_linear_model
from tests.reviewing import decide

GRADES = {"0.0": "functional", "0.333": "mild", "0.667": "moderate", "1.0": "severe"}
PER_GRADE = 12
PICTURED = ("overview", "review", "history")


def _photographs(root: Path) -> list[tuple[Path, str]]:
    """Copy some photographs of solar cells to test/<grade>/ and list them."""
    source = Path(elpv_dataset.__file__).parent / "data"
    found: dict[str, int] = {}
    listed = []
    for line in (source / "labels.csv").read_text().splitlines():
        name, probability, _ = line.split()
        grade = GRADES[next(k for k in GRADES if probability.startswith(k[:3]))]
        if found.setdefault(grade, 0) < PER_GRADE:
            found[grade] += 1
            target = root / "test" / grade / Path(name).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((source / name).read_bytes())
            listed.append((target, grade))
    return listed


def _pixels(path: Path) -> np.ndarray:
    image = Image.open(path).convert("L").resize((SIDE, SIDE))
    return np.asarray(image, dtype=np.float32).ravel() / 255


def _write_model(path: Path, x: np.ndarray, y: list[str], *, c: float) -> Path:
    model = LogisticRegression(C=c, max_iter=300).fit(x, y)
    write_linear_model(path, model.coef_, model.intercept_, list(model.classes_))
    spec = read_spec(str(path))
    resized = Preprocessing(
        resize=SIDE, crop=(SIDE, SIDE), mean=(0.0,), std=(1.0,), mode="L"
    )
    write_spec(
        str(path),
        ModelSpec(
            format=spec.format,
            architecture="",
            classes=spec.classes,
            preprocessing=resized,
        ),
    )
    return path


@pytest.fixture
def cells(transactional_db: None, data_root: Path, model_root: Path) -> Dataset:
    """Photographs, two model versions, two scans, some verdicts and a fix set."""
    admin = factories.UserFactory(username="admin", is_staff=True)
    listed = _photographs(data_root / "cells")
    x = np.stack([_pixels(path) for path, _ in listed])
    y = [grade for _, grade in listed]
    dataset = scanning.register(data_root / "cells", admin, name="Solar cells")
    for number, c in ((1, 0.02), (2, 1.0)):
        path = _write_model(model_root / f"{number}.onnx", x, y, c=c)
        scanning.scan(scanning.add_version(dataset, path, name="inspector"))
    verdicts = [Verdict.CONFIRM, Verdict.CONFIRM, Verdict.DISMISS]
    findings = Finding.objects.waiting().misclassified().hardest_first()
    for finding, verdict in zip(findings[:3], verdicts, strict=True):
        decide(
            finding=finding, by=admin, verdict=verdict, version=0, causes=["lighting"]
        )
    fix_set = freeze_fix_set(
        dataset=dataset, name="first fixes", findings=Finding.objects.all(), by=admin
    )
    run_export(export=request_export(fix_set=fix_set, format="csv", by=admin))
    return dataset


def _pages(dataset: Dataset) -> dict[str, str]:
    base = f"/datasets/{dataset.slug}"
    finding = Finding.objects.waiting().misclassified().hardest_first().first()
    scan = f"{base}/scans/{Scan.objects.newest_first()[0].pk}/"
    return {
        "home": "/",
        "overview": f"{base}/",
        "review-queue": f"{base}/review/",
        "review": f"{base}/review/{finding.pk}/",
        "findings": f"{base}/findings/",
        "finding": f"{base}/findings/{finding.pk}/",
        "confusions": f"{base}/confusions/",
        "history": f"{base}/history/",
        "confusion": f"{base}/history/{Confusion.objects.most_frequent_first()[0].pk}/",
        "scans": f"{base}/scans/",
        "scan": scan,
        "scan-parts": f"{scan}parts/",
        "scan-part": f"{scan}parts/1/",
        "scan-unreadable": f"{scan}unreadable/",
        "scan-new": f"{base}/scans/new/",
        "schedules": f"{base}/schedules/",
        "models": f"{base}/models/",
        "model": f"{base}/models/{dataset.registered_models.get().pk}/",
        "fixsets": f"{base}/fixsets/",
        "fixset-new": f"{base}/fixsets/new/",
        "fixset": f"{base}/fixsets/{dataset.fix_sets.get().pk}/",
        "members": f"{base}/members/",
        "datasets": "/datasets/",
        "dataset-new": "/datasets/new/",
        "account": "/account/",
    }


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_page_holds_up(cells: Dataset, sign_in) -> None:
    admin = User.objects.get(username="admin")
    wrong = problems_at_all_sizes(
        sign_in, admin, _pages(cells), pictured=PICTURED, whole=False
    )
    assert wrong == []
