from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from mining.artefact import iter_outcomes, read_classes
from mining.cli import main
from mining.pace import Pace
from tests.mining.models import save_small_cnn
from tests.mining.pictures import png, write


@pytest.fixture
def farm(tmp_path):
    """Twelve readable images in train, one broken one in test, and a model."""
    for number in range(12):
        label = ("cat", "dog", "owl")[number % 3]
        write(tmp_path / f"data/train/{label}/{number}.png", png(number))
    write(tmp_path / "data/test/cat/broken.png", b"")
    save_small_cnn(tmp_path / "m.safetensors")
    return tmp_path


def scan(farm, *options: str) -> int:
    return main(["scan", f"{farm}/data", f"{farm}/m.safetensors", *options])


def test_it_prints_the_confusions_of_every_outcome(farm, capsys):
    assert scan(farm, "--out", f"{farm}/o.parquet", "--precision", "float32") == 0
    shown = capsys.readouterr().out
    outcomes = list(iter_outcomes(f"{farm}/o.parquet"))
    names = read_classes(f"{farm}/o.parquet")
    pairs = Counter((names[o.true], names[o.predicted]) for o in outcomes if o.is_error)
    errors = pairs.total()
    assert errors > 0
    assert f"{errors} errors ({100 * errors / 12:.1f} %) in 12 images" in shown
    for (actual, predicted), count in pairs.items():
        share = re.escape(f"{100 * count / errors:.1f} %")
        assert re.search(rf"{actual}\s.*{predicted}\s.*\b{count}\s.*{share}", shown)
    assert (
        "1 image could not be read:\n  test/cat/broken.png: the file is empty" in shown
    )
    assert len(outcomes) == 13


def test_a_split_alone_is_scanned(farm, capsys):
    assert scan(farm, "--split", "train") == 0
    shown = capsys.readouterr()
    assert "in 12 images" in shown.out
    assert "could not be read" not in shown.out
    assert shown.err == ""


def test_a_manifest_is_scanned(farm, capsys):
    (farm / "data/m.csv").write_text("path,label\ntrain/cat/0.png,owl\n")
    assert scan(farm, "--manifest", "m.csv") == 0
    assert "in 1 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--split", "val"), "no images in the split val"),
        (("--manifest", "none.csv"), "cannot be read"),
        (("--batch-size", "-1"), "batch_size must be"),
        (("--workers", "1000"), "workers must be"),
    ],
)
def test_a_refusal_is_one_clear_message_and_status_2(farm, capsys, options, reason):
    assert scan(farm, *options) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("mining: ")
    assert reason in shown.err
    assert shown.out == ""


def test_labels_that_the_model_does_not_know_are_refused(farm, capsys):
    write(farm / "data/train/wolf/1.png")
    assert scan(farm) == 2
    assert "do not fit" in capsys.readouterr().err


def test_markup_in_names_is_only_text(farm, capsys):
    (farm / "data/m.csv").write_text("path,label\n[bold]/[/x].png,cat\n")
    assert scan(farm, "--manifest", "m.csv") == 0
    assert "  [bold]/[/x].png: the file does not exist" in capsys.readouterr().out


def test_it_runs_as_a_module(farm):
    command = [sys.executable, "-m", "mining", "scan", f"{farm}/none", f"{farm}/m"]
    env = os.environ | {"PYTHONWARNINGS": "error::DeprecationWarning:mining"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("mining: The worker cannot see")
    assert "Traceback" not in done.stderr


def loaded_after(code: str, *names: str) -> str:
    """Run code in a fresh interpreter; return which of the modules it imported."""
    code += f"\nprint([name for name in {names} if name in sys.modules])"
    command = [sys.executable, "-c", f"import sys\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments", ["--help", "scan --help", "scan", "scan {farm}/data {farm}/none"]
)
def test_what_needs_no_model_answers_without_torch(farm, arguments):
    arguments = arguments.format(farm=farm).split()
    code = f"""
from mining.cli import main
from mining.pace import Pace
try:
    main({arguments})
except SystemExit:
    pass"""
    assert loaded_after(code, "torch", "torchvision", "onnxruntime") == "[]"


def test_a_missing_checkpoint_is_said_before_the_data_set_is_read(farm, capsys):
    (farm / "m.safetensors").unlink()
    assert main(["scan", f"{farm}/none", f"{farm}/m.safetensors"]) == 2
    assert f"The worker cannot see {farm}/m.safetensors" in capsys.readouterr().err


def test_onnxruntime_and_torchvision_are_imported_only_for_their_models(farm):
    code = f"""
from mining.checkpoints import load_model, read_spec
path = {f"{farm}/m.safetensors"!r}
load_model(path, read_spec(path), device="cpu")"""
    assert loaded_after(code, "torch", "torchvision", "onnxruntime") == "['torch']"


def test_it_ends_with_its_pace_in_one_line(farm, capsys):
    options = ("--precision", "bfloat16", "--workers", "1", "--batch-size", "8")
    assert scan(farm, *options) == 0
    shown = capsys.readouterr()
    last = shown.out.splitlines()[-1]
    assert re.match(r"cpu, bfloat16, [\d,]+ images/s", last)
    assert re.search(r" % of the time of 1 thread, .* %\.$", last)
    assert shown.err == ""  # no bar where there is no terminal


def test_near_ties_are_counted(farm, capsys, monkeypatch):
    monkeypatch.setattr(
        Pace,
        "to_dict",
        lambda _: {
            "device": "cuda: A",
            "precision": "bfloat16",
            "images": 5000,
            "seconds": 2.0,
            "rechecked": 1200,
            "changed": 3,
        },
    )
    assert scan(farm) == 0
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith(
            "cuda: A, bfloat16, 2,500 images/s; 1,200 near ties computed again in float32,"
            " which changed 3. The GPU is busy"
        )
    )
