"""The command line does what the pages do, and says so in a line."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from rest_framework.test import APIClient

from mining.types import ScanSettings
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.management import scans as watching
from reviewapp.management.commands import scan as scan_command
from reviewapp.management.meter import Meter
from reviewapp.models import (
    Dataset,
    Export,
    Finding,
    Registration,
    Scan,
    Schedule,
    User,
    Verdict,
)
from tests import factories, scanning
from tests.images import LEVELS, write_animals, write_brightness_model, write_image
from tests.reviewing import decide

WRONG = {("cat", "dog"): 3, ("dog", "fox"): 2, ("fox", "cat"): 1}


def run(name: str, *words: str) -> str:
    out = StringIO()
    call_command(name, *words, stdout=out, stderr=StringIO())
    return out.getvalue()


@pytest.fixture
def staff(db: None) -> User:
    return factories.UserFactory(username="staff", is_staff=True)


@pytest.fixture
def folder(data_root: Path) -> Path:
    write_animals(data_root / "animals", wrong=WRONG)
    return data_root / "animals"


@pytest.fixture
def animals(folder: Path, staff: User) -> Dataset:
    return scanning.register(folder, staff)


@pytest.fixture
def net(animals: Dataset, model_root: Path) -> str:
    scanning.add_version(animals, write_brightness_model(model_root / "1.onnx"))
    return "net"


# --- data sets and models -------------------------------------------------------


def test_it_registers_a_data_set_and_registers_it_again(
    folder: Path, staff: User
) -> None:
    words = ("Animals", str(folder), "--by", "staff")
    first = run("register_dataset", *words)
    assert "18 samples, 18 added, 0 changed, 0 removed, 0 relabelled, 0 unre" in first
    write_image(folder / "test/cat/000.png", 77, seed=99)
    (folder / "test/dog/004.png").rename(folder / "test/fox/004.png")
    assert "18 samples, 1 added, 1 changed, 1 removed" in run(
        "register_dataset", *words
    )
    assert Dataset.objects.get().memberships.get().user == staff


def test_it_refuses_another_root_for_a_known_data_set(
    animals: Dataset, data_root: Path
) -> None:
    (data_root / "else").mkdir()
    with pytest.raises(CommandError, match=r"was registered from .*animals"):
        run("register_dataset", "Animals", str(data_root / "else"), "--by", "staff")


def test_a_source_that_cannot_be_read_is_one_line(data_root: Path, staff: User) -> None:
    (data_root / "empty").mkdir()
    with pytest.raises(CommandError, match=r"empty.*was left as it was"):
        run("register_dataset", "Empty", str(data_root / "empty"), "--by", "staff")


def test_an_interrupted_registration_does_not_look_as_if_it_ran(
    folder: Path, staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Meter, done: int) -> None:
        raise KeyboardInterrupt

    words = ("Animals", str(folder), "--by", "staff")
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "reach", interrupt)
        with pytest.raises(CommandError, match="Stopped") as caught:
            run("register_dataset", *words)
    assert caught.value.returncode == 130
    assert Registration.objects.get().state == Registration.State.FAILED
    assert "18 added" in run("register_dataset", *words)


def test_a_registration_whose_process_died_is_taken_up(
    animals: Dataset, folder: Path, staff: User
) -> None:

    long_ago = timezone.now() - timezone.timedelta(hours=1)
    factories.RegistrationFactory(
        dataset=animals, state="running", heartbeat_at=long_ago
    )
    assert "18 samples, 0 added" in run(
        "register_dataset", "Animals", str(folder), "--by", "staff"
    )


def test_an_unknown_person_is_named(folder: Path, db: None) -> None:
    with pytest.raises(CommandError, match="no account 'nobody'"):
        run("register_dataset", "Animals", str(folder), "--by", "nobody")


def test_it_registers_a_model_version(animals: Dataset, model_root: Path) -> None:
    path = write_brightness_model(model_root / "2.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    out = run("register_model", "animals", "net", str(path), "--note", "brighter")
    assert f"net v1 is {path} ({digest[:12]})" in out
    assert animals.registered_models.get().versions.get().note == "brighter"


def test_another_class_order_is_refused_with_both_lists(
    animals: Dataset, model_root: Path
) -> None:
    levels = dict(reversed(LEVELS.items()))
    path = write_brightness_model(model_root / "3.onnx", levels)
    with pytest.raises(CommandError, match=r"(?s)fox, dog, cat.*cat, dog, fox"):
        run("register_model", "animals", "net", str(path))


def test_an_unknown_data_set_is_answered_with_the_known_ones(animals: Dataset) -> None:
    with pytest.raises(
        CommandError, match=r"no data set called 'x'\. There are: animals"
    ):
        run("register_model", "x", "net", "file")


# --- scans ----------------------------------------------------------------------


@pytest.fixture
def work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what a worker does in this process."""
    monkeypatch.setattr(scan_command, "enqueue_scan", scanning.run)
    monkeypatch.setattr(scan_command, "unserved_queues", list)


def test_it_scans_and_prints_the_confusions(net: str, work_at_once: None) -> None:
    lines = run("scan", "animals", net, "--split", "test").splitlines()
    assert "net v1 on 18 images of Animals" in lines[0]
    cells = [
        [c.strip() for c in line.strip("│").split("│")] for line in lines if "│" in line
    ]
    assert cells == [
        ["cat", "dog", "3", "50.0 %"],
        ["dog", "fox", "2", "33.3 %"],
        ["fox", "cat", "1", "16.7 %"],
    ]
    end = lines.index("6 errors (33.3 %) in 18 images")
    assert re.fullmatch(
        r"18 images in [\d.]+ s: [\d,.]+ images/s, cpu, .*", lines[end + 1]
    )
    assert "of the time of" in lines[end + 2]  # what limits the speed


def test_it_counts_what_could_not_be_read(
    animals: Dataset, net: str, folder: Path, work_at_once: None
) -> None:
    (folder / "test/cat/000.png").write_bytes(b"")
    lines = run("scan", "animals", net).splitlines()
    end = lines.index("6 errors (35.3 %) in 17 images")
    assert lines[end + 1] == "1 more could not be read:"
    assert lines[end + 2].startswith("  1 x ")


def test_a_failed_scan_is_an_error_with_the_reason(
    net: str, monkeypatch: pytest.MonkeyPatch, work_at_once: None
) -> None:
    def fail(scan: Scan) -> None:
        Scan.objects.filter(pk=scan.pk).update(state="failed", message="No such file.")
        scan.refresh_from_db()

    monkeypatch.setattr(scan_command, "enqueue_scan", fail)
    with pytest.raises(CommandError, match="failed: No such file") as caught:
        run("scan", "animals", net)
    assert caught.value.returncode == 1
    assert "manage.py scan --resume" in str(caught.value)


def test_a_partial_scan_prints_what_it_found_and_ends_with_status_3(
    net: str, monkeypatch: pytest.MonkeyPatch, work_at_once: None
) -> None:
    monkeypatch.setattr(scan_command, "enqueue_scan", _run_all_but_the_last)
    out = StringIO()
    with pytest.raises(CommandError, match="partial") as caught:
        call_command("scan", "animals", net, "--shard-size", "6", stdout=out)
    assert caught.value.returncode == 3
    scan = Scan.objects.get()
    assert f"manage.py scan --resume {scan.pk}" in str(caught.value)
    assert "in 12 images" in out.getvalue()

    monkeypatch.setattr(scan_command, "enqueue_scan", scanning.run)
    resumed = run("scan", "--resume", str(scan.pk))
    assert f"Scan {scan.pk} goes on: net v1" in resumed
    assert "6 errors (33.3 %) in 18 images" in resumed
    with pytest.raises(CommandError, match="nothing to resume"):
        run("scan", "--resume", str(scan.pk))


def _run_all_but_the_last(scan: Scan) -> None:
    last = scan.shards.order_by("number").last()
    assert last
    scan.shards.filter(pk=last.pk).update(
        state="quarantined", failures=3, attempts=3, message="no disk"
    )
    scanning.run(scan)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("animals",), "Name a data set and a model"),
        (("--resume", "999999"), "no scan 999999"),
        (("animals", "net", "--resume", "1"), "takes nothing but"),
        (("--resume", "1", "--batch-size", "8"), "takes nothing but"),
        (("animals", "net", "--near-miss-below", "7"), "near_miss_below"),
        (("animals", "net", "--precision", "float8"), "invalid choice"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    net: str, words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(CommandError, match=said):
        run("scan", *words)
    assert not Scan.objects.exists()


def test_it_passes_the_settings_on(net: str, work_at_once: None) -> None:
    words = "--precision float32 --device cpu --batch-size 4 --workers 1 --decode cpu"
    more = "--near-miss-below 0.7 --shard-size 9"
    run("scan", "animals", net, *words.split(), *more.split())
    assert (
        Scan.objects.get().settings
        == ScanSettings(
            precision="float32",
            device="cpu",
            batch_size=4,
            workers=1,
            decode="cpu",
            near_miss_below=0.7,
            shard_size=9,
        ).to_dict()
    )


def test_ctrl_c_leaves_the_scan_to_its_worker(
    net: str, monkeypatch: pytest.MonkeyPatch, work_at_once: None
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scan_command, "follow", interrupt)
    with pytest.raises(CommandError, match="goes on without this command") as caught:
        run("scan", "animals", net)
    assert caught.value.returncode == 130


def test_a_dead_worker_is_not_waited_for(
    net: str, animals: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:

    scan = factories.ScanFactory(
        model_version=animals.registered_models.get().versions.get(), state="running"
    )
    dead = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    dead.wait()
    with pytest.raises(CommandError, match="ended with status 3"):
        watching.wait_for(scan, OutputWrapper(StringIO()), worker=dead)


@pytest.mark.django_db(transaction=True)
def test_it_says_when_no_worker_answers(net: str) -> None:
    out = run("scan", "animals", net, "--no-wait")
    assert "No worker answers for scan and default" in out
    assert Scan.objects.get().state == Scan.State.QUEUED


def test_it_takes_an_older_version(
    animals: Dataset, net: str, model_root: Path, work_at_once: None
) -> None:
    scanning.add_version(
        animals, write_brightness_model(model_root / "2.onnx", sharpness=150.0)
    )
    assert "net v1 on" in run("scan", "animals", net, "--version", "1")
    with pytest.raises(CommandError, match=r"no such version\. There are: 1, 2"):
        run("scan", "animals", net, "--version", "3")


def test_it_schedules_lists_and_removes(animals: Dataset, net: str) -> None:
    assert "Nothing is scheduled" in run("schedule_scan", "--list")
    run("schedule_scan", "animals", net, "--split", "test", "--cron", "0 2 * * *")
    line = "net on Animals, test, at '0 2 * * *'"
    assert run("schedule_scan", "--list").strip() == line
    task = PeriodicTask.objects.get(task="reviewapp.tasks.start_scheduled_scan")
    assert task.crontab.hour == "2"
    with pytest.raises(CommandError, match="for every sample"):
        run("schedule_scan", "animals", net, "--remove")
    run("schedule_scan", "animals", net, "--split", "test", "--remove")
    assert not Schedule.objects.exists()
    assert not PeriodicTask.objects.filter(pk=task.pk).exists()


def test_a_bad_cron_line_is_explained(net: str) -> None:
    with pytest.raises(CommandError, match=r"cannot be used .* for example"):
        run("schedule_scan", "animals", net, "--cron", "every night")


# --- fix sets and tokens ----------------------------------------------------------


@pytest.fixture
def fix_set(animals: Dataset, net: str, staff: User) -> str:
    scanning.scan(animals.registered_models.get().versions.get())
    finding = Finding.objects.order_by("sample__key").first()
    assert finding
    decide(
        finding=finding,
        version=finding.version,
        verdict=Verdict.CONFIRM,
        by=staff,
    )
    freeze_fix_set(
        dataset=animals, name="first", findings=Finding.objects.all(), by=staff
    )
    return "first"


@pytest.mark.parametrize("kind", ["csv", "zip"])
def test_it_exports_the_bytes_whose_digest_it_prints(
    fix_set: str, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"fix.{kind}"
    out = run(
        "export_fix_set", "animals", fix_set, "--format", kind, "--output", str(path)
    )
    assert f"1 samples, {path.stat().st_size:,} bytes" in out
    assert hashlib.sha256(path.read_bytes()).hexdigest() in out
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_export_that_cannot_be_written_is_kept(fix_set: str, tmp_path: Path) -> None:
    words = ("--output", str(tmp_path / "missing" / "fix.csv"))
    with pytest.raises(CommandError, match=r"missing.*could not be written.*exports/"):
        run("export_fix_set", "animals", fix_set, *words)
    assert Export.objects.get().state == Export.State.DONE


def test_a_token_opens_the_api(staff: User, clean_cache: None) -> None:
    token = run("create_token", "staff").strip()
    client = APIClient()
    assert client.get("/api/datasets/").status_code == 401
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    assert client.get("/api/datasets/").status_code == 200
