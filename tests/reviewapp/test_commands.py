"""The command line does what the pages do, and says so in a line."""

from __future__ import annotations

import gzip
import hashlib
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from PIL import Image
from rest_framework.test import APIClient

from mining.specs import read_spec
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.reviews import decide
from reviewapp.demo import elpv, fashion
from reviewapp.demo.accounts import ensure_accounts
from reviewapp.demo.folders import whole_folder
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

WRONG = {("cat", "dog"): 3, ("dog", "fox"): 2, ("fox", "cat"): 1}


def run(name: str, *words: str) -> str:
    out = StringIO()
    call_command(name, *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def track(label: str, total: int) -> Meter:

    return Meter(OutputWrapper(StringIO()), label, total)


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
        with pytest.raises(KeyboardInterrupt):
            run("register_dataset", *words)
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
    assert lines[-1] == "6 errors (33.3 %) in 18 images"


def test_it_counts_what_could_not_be_read(
    animals: Dataset, net: str, folder: Path, work_at_once: None
) -> None:
    (folder / "test/cat/000.png").write_bytes(b"")
    assert run("scan", "animals", net).splitlines()[-2:] == [
        "6 errors (35.3 %) in 17 images",
        "1 more could not be read; the scan's page says why",
    ]


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
    with pytest.raises(CommandError, match=r"cannot be read .* for example"):
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


# --- up ---------------------------------------------------------------------------


def test_up_refuses_a_taken_port_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            CommandError, match=f"Port {port} .* is taken.*--port {port + 1}"
        ):
            run("up", "--port", str(port))


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_up_serves_until_ctrl_c_and_ends_with_the_part_that_dies(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (tmp_path / "log").open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "manage.py", "up", "--port", str(port)],
            cwd=settings.BASE_DIR,
            env=_environment(),
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until(lambda: _answers(port) and b"beat started" in _log(tmp_path))
        up.send_signal(signal.SIGINT)
        assert up.wait(30) == 0, _log(tmp_path).decode()
    finally:
        up.kill()
    text = _log(tmp_path).decode()
    assert f"http://127.0.0.1:{port}" in text
    for name in ("web", "scan", "worker", "beat"):
        assert f"{name} stopped" in text
    assert not _answers(port)


@pytest.mark.parametrize(("status", "expected"), [(3, 3), (0, 1)])
def test_up_ends_with_the_status_of_the_part_that_dies(
    status: int, expected: int, monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    from reviewapp.management.commands import up

    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    dies = [sys.executable, "-c", f"raise SystemExit({status})"]
    monkeypatch.setattr(up, "web_command", lambda **_: sleep)
    monkeypatch.setattr(up, "worker_command", lambda *_, **__: sleep)
    monkeypatch.setattr(up, "beat_command", lambda: dies)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as caught:
            run("up", "--port", "0")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert caught.value.code == expected


def _environment() -> dict[str, str]:
    import os

    from tests.flows.worker import database_url

    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
    }


def _log(folder: Path) -> bytes:
    return (folder / "log").read_bytes()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as caller:
            caller.sendall(b"GET /healthz/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return caller.recv(12).endswith(b"200")
    except OSError:
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


# --- the demo -----------------------------------------------------------------------


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
    import torch

    from mining.checkpoints import load_model
    from reviewapp.demo.training import train_elpv

    path = tmp_path / "models" / "net.safetensors"
    threads = torch.get_num_threads()
    try:
        train_elpv(cells, path, elpv.GRADES, track)
    finally:
        torch.set_num_threads(threads)
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
    import torch

    from reviewapp.demo.training import train_fashion

    threads = torch.get_num_threads()
    try:
        train_fashion(tmp_path, tmp_path / "m" / "net", sorted(fashion.CLASSES), track)
    finally:
        torch.set_num_threads(threads)
    assert read_spec(str(tmp_path / "m" / "net")).classes[0] == "Ankle boot"


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
