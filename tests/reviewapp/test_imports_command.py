"""manage.py import_predictions: the same import, from the command line."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command

from mining.artefact import iter_outcomes
from reviewapp.management import imports as importing_here
from reviewapp.models import Dataset, Import, Label, Sample, Scan, User
from tests import factories


@pytest.fixture(autouse=True)
def samples(dataset: Dataset, labels: list[Label]) -> None:
    for n, key in enumerate(("a.png", "b.png")):
        factories.SampleFactory(label=labels[n], key=key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.csv"
    path.write_text("key,cat,dog,fox\na.png,0.25,0.75,0\nb.png,0,1,0\n")
    return path


def run(*words: object) -> str:
    out = StringIO()
    words = ("animals", *words, "--model", "remote")
    call_command("import_predictions", *map(str, words), stdout=out, stderr=StringIO())
    return out.getvalue()


def test_it_prints_what_the_scan_found(file: Path, lena: User) -> None:
    printed = run(file, "--split", "test", "--near-miss-below", "0.9", "--by", "lena")
    scan = Scan.objects.get()
    assert f"Scan {scan.pk}: remote v1 on 2 images of Animals" in printed
    assert "1 errors (50.0 %) in 2 images" in printed
    assert (scan.split, scan.settings["near_miss_below"]) == ("test", 0.9)
    job = Import.objects.get()
    assert (job.state, job.file, job.requested_by) == ("done", "", lena)
    assert file.exists()


def test_it_exits_with_the_report_of_a_bad_file(file: Path) -> None:
    file.write_text(file.read_text() + "c.png,1,0,0\nb.png,0.5,0,0\n")
    out = StringIO()
    with pytest.raises(CommandError, match="Nothing was imported") as caught:
        call_command(
            "import_predictions", "animals", str(file), model="remote", stdout=out
        )
    assert caught.value.returncode == 1
    printed = out.getvalue()
    assert "unknown key" in printed
    assert "c.png" in printed
    assert "sum to 0.5" in printed
    assert not Scan.objects.exists()


def test_it_leaves_bad_rows_out_when_it_is_told_to(file: Path) -> None:
    file.write_text(file.read_text() + "c.png,1,0,0\n")
    printed = run(file, "--allow-partial")
    assert "unknown key" in printed
    assert "1 bad rows were left out." in printed
    assert Scan.objects.get().correct == 1


def test_it_takes_the_order_of_the_classes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"key": "a.png", "pred_probs": [0, 0, 1]}\n'
        '{"key": "b.png", "pred_probs": [0, 1, 0]}\n'
    )
    order = tmp_path / "classes.json"
    order.write_text('["fox", "dog", "cat"]')
    run(path, "--classes", order)
    assert Scan.objects.get().errors == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("nowhere.csv",), "nowhere.csv cannot be read: No such file"),
        (("FILE", "--classes", "nowhere.json"), "nowhere.json: No such file"),
        (("FILE", "--near-miss-below", "7"), "must be from 0 to 1"),
        (("FILE", "--by", "nobody"), "There is no account 'nobody'"),
    ],
)
def test_it_says_in_a_line_what_is_wrong(
    file: Path, words: tuple[str, ...], problem: str
) -> None:
    with pytest.raises(CommandError, match=problem):
        run(*(file if word == "FILE" else word for word in words))
    assert not Import.objects.exists()


def test_an_interrupted_one_does_not_look_as_if_it_ran(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importing_here.run_import

    def interrupted(**kwargs: object) -> None:
        def stop(job: Import) -> None:
            raise KeyboardInterrupt

        real(**kwargs | {"on_progress": stop})

    monkeypatch.setattr(importing_here, "run_import", interrupted)
    with pytest.raises(CommandError) as caught:
        run(file)
    assert caught.value.returncode == 130
    job = Import.objects.get()
    assert (job.state, job.message) == ("failed", "Interrupted. Import the file again.")


def test_predictions_of_the_train_split_are_in_sample_unless_they_are_out_of_fold(
    file: Path,
) -> None:
    Sample.objects.update(split="train")
    run(file)
    plain = Scan.objects.get()
    assert (plain.is_in_sample, plain.folds) == (True, 0)
    run(file, "--folds", 5)
    honest = Scan.objects.latest("id")
    assert (honest.is_in_sample, honest.folds) == (False, 5)
    # Which images each of those models judged is not known.
    outcomes = iter_outcomes(default_storage.path(honest.artefact))
    assert [outcome.fold for outcome in outcomes] == [None, None]
    with pytest.raises(CommandError, match="Name from 2 to 20 folds, not 1"):
        run(file, "--folds", 1)
