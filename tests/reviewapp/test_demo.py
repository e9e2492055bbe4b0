"""The demo makes its data, model and accounts once, and scans with a real worker."""

from __future__ import annotations

import gzip
import stat
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.core.management import call_command
from django.core.management.base import OutputWrapper
from PIL import Image

from mining.checkpoints import load_model
from mining.specs import read_spec
from reviewapp.demo import elpv, fashion, training
from reviewapp.demo.accounts import ensure_accounts
from reviewapp.demo.folders import whole_folder
from reviewapp.management.meter import Meter
from reviewapp.models import Dataset, Scan, User
from tests import factories
from tests.flows.worker import database_url
from tests.images import write_image


def track(label: str, total: int) -> Meter:
    return Meter(OutputWrapper(StringIO()), label, total)


@pytest.fixture(autouse=True)
def same_threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_third_of_the_photographs_tests() -> None:
    splits = [elpv.split_of(row) for row in range(2624)]
    assert splits.count("test") == 874
    assert splits.count("train") > 8 * splits.count("val") > 0


def test_the_grades_are_in_the_order_of_the_alphabet() -> None:
    assert list(elpv.GRADES) == sorted(elpv.GRADES)


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package elpv_dataset with nine cells, the brighter the more defective."""
    data = tmp_path / "package" / "elpv_dataset" / "data"
    rows = []
    for number in range(9):
        name = f"images/cell{number:04d}.png"
        write_image(data / name, 60 * (number % 4), seed=number, side=300)
        rows.append(f"{name}  {number % 4 / 3:.16f}  mono")
    (data / "labels.csv").write_text("\n".join(rows) + "\n")
    (data.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(data.parent.parent)
    monkeypatch.delitem(sys.modules, "elpv_dataset", raising=False)
    folder = tmp_path / "elpv"
    elpv.prepare_elpv(folder, track)
    return folder


def test_it_copies_the_photographs_with_a_manifest(cells: Path) -> None:
    lines = (cells / "manifest.csv").read_text().splitlines()
    assert lines[:5] == [
        "path,label,split,probability,type",
        "images/cell0000.png,functional,val,0.0000000000000000,mono",
        "images/cell0001.png,mild,train,0.3333333333333333,mono",
        "images/cell0002.png,moderate,test,0.6666666666666666,mono",
        "images/cell0003.png,severe,train,1.0000000000000000,mono",
    ]
    assert len(list((cells / "images").iterdir())) == len(lines) - 1 == 9


def test_a_folder_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_folder(tmp_path / "data") as partial:
            (partial / "1.png").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_it_trains_a_network_that_can_be_scanned_with(
    cells: Path, tmp_path: Path
) -> None:
    path = tmp_path / "models" / "net.safetensors"
    training.train_elpv(cells, path, elpv.GRADES, track)
    spec = read_spec(str(path))
    assert spec.classes == elpv.GRADES
    model = load_model(str(path), spec, device="cpu", precision="float32")
    logits = model(torch.zeros(2, 3, 224, 224, dtype=torch.uint8))
    assert logits.shape == (2, 4)
    assert torch.isfinite(logits).all()
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "net.safetensors",
        "net.safetensors.json",
    ]


@pytest.fixture
def clothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Files of Fashion-MNIST with 40 images to train on and 10 to test."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28)).astype(np.uint8)
    for prefix, n in (("train", 40), ("t10k", 10)):
        numbers = (np.arange(n) % 10).astype(np.uint8)
        for kind, header, data in (
            ("images-idx3", 16, pixels[:n]),
            ("labels-idx1", 8, numbers),
        ):
            with gzip.open(tmp_path / f"{prefix}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + data.tobytes())
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path)
    return pixels


def test_it_writes_every_image_into_the_folder_of_its_class(
    clothing: np.ndarray, tmp_path: Path
) -> None:
    fashion.prepare_fashion(tmp_path / "out", track)
    files = sorted(p.relative_to(tmp_path / "out") for p in tmp_path.glob("out/*/*/*"))
    assert len(files) == 50
    assert str(files[0]) == "test/Ankle boot/00009.png"
    with Image.open(tmp_path / "out/train/Coat/00034.png") as image:
        assert (np.asarray(image) == clothing[34]).all()


@pytest.mark.slow
def test_it_trains_on_the_classes_in_the_order_of_the_data_set(
    clothing: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "m" / "net"
    training.train_fashion(tmp_path, path, sorted(fashion.CLASSES), track)
    assert read_spec(str(path)).classes[0] == "Ankle boot"


def test_the_accounts_are_made_once_with_passwords_nobody_else_reads(
    db: None, tmp_path: Path
) -> None:
    path = tmp_path / "accounts.txt"
    first = ensure_accounts(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first == ensure_accounts(path)
    assert first["admin"] != first["reviewer"]
    for name, password in first.items():
        assert User.objects.get(username=name).check_password(password or "")
    assert [u.is_superuser for u in User.objects.order_by("username")] == [True, False]


def test_an_account_that_somebody_made_is_left_alone(db: None, tmp_path: Path) -> None:
    admin = factories.UserFactory(username="admin")
    accounts = ensure_accounts(tmp_path / "accounts.txt")
    assert accounts["admin"] is None
    assert accounts["reviewer"]
    assert admin.password == User.objects.get(username="admin").password


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_demo_runs_through_and_uses_everything_again(
    cells: Path, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VAR = tmp_path
    monkeypatch.setenv("DATABASE_URL", database_url())  # for the worker
    out = StringIO()
    call_command("demo", "--exit", stdout=out)
    scan = Scan.objects.get()
    assert scan.is_done
    assert f"{scan.errors} errors" in out.getvalue()
    assert " in 3 images" in out.getvalue()
    dataset = Dataset.objects.get()
    assert dataset.class_names() == list(elpv.GRADES)
    roles = dataset.memberships.values_list("user__username", "role")
    assert set(roles) == {("admin", "admin"), ("reviewer", "reviewer")}

    monkeypatch.setattr(training, "TRAINERS", {})
    again = StringIO()
    call_command("demo", "--exit", stdout=again)
    assert Scan.objects.get() == scan
    assert out.getvalue().endswith(again.getvalue())  # the table and the accounts
