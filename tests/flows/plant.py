"""A whole Hardmine of its own: servers, data, workers; free to be broken by a test."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import django.db
import kombu.exceptions
import redis
from django.conf import settings
from django.db import connections
from django.test import override_settings
from environ import Env

from reviewapp import services, tasks
from reviewapp.actions.scans import start_scan
from reviewapp.celery import app
from reviewapp.management.processes import beat_command, worker_command
from reviewapp.models import Dataset, Scan, Shard, User
from reviewapp.services_keeper import POSTGRES, VALKEY, is_locked
from tests import factories, scanning
from tests.flows.facts import Facts, differing, facts, settle
from tests.flows.material import write_dataset, write_models
from tests.flows.worker import wait_for
from tests.migrated import fill_from

LEASE_S = 2
SWEEP_S = 0.6  # a sweep takes as much as some shards
SMALL_SHARDS = {"shard_size": 12, "batch_size": 4, "device": "cpu"}
# One shard of forty batches, each of about a twentieth of a second.
SLOW = {"model": "slow", "split": "val", "shard_size": 40, "batch_size": 1}
SERVER_IS_AWAY = (
    django.db.OperationalError,
    django.db.InterfaceError,
    kombu.exceptions.OperationalError,
    redis.RedisError,
)


@dataclass
class Worker:
    """A worker process; `nursery` tells how it was started."""

    pid: int
    log: Path

    @property
    def is_alive(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def is_frozen(self) -> bool:
        stat = Path(f"/proc/{self.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, and wait until it is gone."""
        self.send(signal.SIGKILL)
        wait_for(lambda: not self.is_alive)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)
        wait_for(lambda: self.is_frozen)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)


@dataclass
class Plant:
    """Servers, a registered data set and workers, in a folder of their own.

    Inside `at_work` the Django and Celery of the test's process work on it too.
    """

    migrated: str  # a database of the tests' server, whose tables it gets
    var: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="hardmine-"))
    )
    workers: list[Worker] = field(default_factory=list)
    _references: dict[str, Facts] = field(default_factory=dict)
    _swept_at: float = 0.0
    _sweeps: bool = True
    _models: int = 0

    def __post_init__(self) -> None:
        for name in ("data", "models", "media", "orders", "logs"):
            (self.var / name).mkdir()
        write_dataset(self.var / "data" / "animals")
        write_models(self.var / "models")
        self.endpoints = services.ensure(self.var, grace_s=0.2)
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.flows.nursery"],
            cwd=settings.BASE_DIR,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        fill_from(self.migrated, self.endpoints.database_url)
        with self.at_work():
            self.staff: User = factories.UserFactory(username="staff", is_staff=True)
            root = self.var / "data" / "animals"
            self.dataset: Dataset = scanning.register(root, self.staff)
        assert self._answer() == "ready"

    def close(self) -> None:
        """Stop everything and leave nothing."""
        self.dismiss()
        self._nursery.stdin.close()
        self._nursery.wait(60)
        self._nursery.stdout.close()
        os.close(services._held.pop(self.var.resolve()))
        wait_for(lambda: not is_locked(self.var, "keeper.lock"))
        shutil.rmtree(self.var)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Point this process's Django and Celery at the plant's servers."""
        usual = connections.settings["default"], app.conf.broker_url
        private = copy.deepcopy(usual[0])
        private.update(Env.db_url_config(self.endpoints.database_url))
        _point_at(private, self.endpoints.broker_url)
        roots = {"DATA_ROOTS": [str(self.var / "data")]}
        roots["MODEL_ROOTS"] = [str(self.var / "models")]
        try:
            with override_settings(
                **roots,
                MEDIA_ROOT=self.var / "media",
                SHARD_LEASE_SECONDS=LEASE_S,
            ):
                yield
        finally:
            _point_at(*usual)

    # --- workers ----------------------------------------------------------------

    def hire(self, *, file_limit: int | None = None, **environment: str) -> Worker:
        """Start a worker.

        Args:
            file_limit: Largest file that it may write, in bytes.
            **environment: What differs from the usual environment.
        """
        log = self._log()
        words = worker_command("scan", "default", pool="solo")
        alone = ["--without-gossip", "--without-mingle", "--hostname", f"{log.stem}@%h"]
        worker = self._fork([*words, *alone], log, environment, file_limit)
        self.workers.append(worker)
        return worker

    @contextmanager
    def scheduler(self) -> Iterator[Worker]:
        """Run the process that sweeps for lost work, in place of our own sweeps."""
        scheduler = self._fork(beat_command(), self._log(), {}, None)
        try:
            with self.no_sweeps():
                yield scheduler
        finally:
            scheduler.kill()

    @contextmanager
    def no_sweeps(self) -> Iterator[None]:
        """Recover nothing that was lost."""
        self._sweeps = False
        try:
            yield
        finally:
            self._sweeps = True

    def _log(self) -> Path:
        folder = self.var / "logs"
        log = folder / f"{len(list(folder.iterdir()))}.log"
        log.touch()
        return log

    def _fork(
        self,
        words: list[str],
        log: Path,
        environment: dict[str, str],
        file_limit: int | None,
    ) -> Worker:
        order = {
            "environment": {**self._environment(), **environment},
            "arguments": words[words.index("-A") :],
            "log": str(log),
            "file_limit": file_limit,
        }
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        return Worker(int(self._answer()), log)

    def _answer(self) -> str:
        return self._nursery.stdout.readline().strip()

    def _environment(self) -> dict[str, str]:
        orders = json.dumps({"orders": str(self.var / "orders")})
        return {
            "DJANGO_SETTINGS_MODULE": "reviewapp.settings",
            "HARDMINE_VAR": str(self.var),
            "HARDMINE_DURABLE": "on",
            "HARDMINE_DATA_ROOTS": str(self.var / "data"),
            "HARDMINE_MODEL_ROOTS": str(self.var / "models"),
            "HARDMINE_SHARD_LEASE_SECONDS": str(LEASE_S),
            "HARDMINE_SWEEP_SECONDS": "1",
            "HARDMINE_STORAGE": "tests.flows.saboteur.SabotagedStorage",
            "HARDMINE_STORAGE_OPTIONS": orders,
            "LOG_LEVEL": "INFO",
        }

    def dismiss(self, keep: int = 0) -> None:
        """Kill workers until so many are left."""
        self.workers = [worker for worker in self.workers if worker.is_alive]
        while len(self.workers) > keep:
            self.workers.pop().kill()

    def man(self, n: int) -> list[Worker]:
        """See to it that exactly `n` workers live."""
        self.dismiss(keep=n)
        while len(self.workers) < n:
            self.hire()
        return list(self.workers)

    # --- scans ------------------------------------------------------------------

    def start(
        self, *, model: str = "quick", split: str = "test", **chosen: object
    ) -> Scan:
        """Start a scan of a registered model of its own; nothing is sent yet."""
        self._models += 1
        checkpoint = self.var / "models" / f"{model}.onnx"
        version = scanning.add_version(
            self.dataset, checkpoint, name=f"{model} {self._models}"
        )
        return start_scan(
            dataset=self.dataset,
            version=version,
            trigger=Scan.Trigger.COMMAND,
            by=self.staff,
            split=split,
            settings={**SMALL_SHARDS, **chosen},
        )

    def send(self, scan: Scan) -> None:
        tasks.enqueue_scan(scan)

    def reference(self, **options: object) -> Facts:
        """Return what an undisturbed scan with these options leaves."""
        key = json.dumps(options, sort_keys=True)
        if key not in self._references:
            self.man(1)  # before: one that is dismissed may be at work
            scan = self.start(**options)
            self.send(scan)
            with self.no_sweeps():
                self.await_end(scan)
            assert (scan.state, scan.message) == (Scan.State.DONE, "")
            assert set(scan.shards.values_list("attempts", flat=True)) == {1}
            settle(scan)
            self._references[key] = facts(scan)
        return self._references[key]

    def await_end(
        self, scan: Scan, *, workers: int | None = 1, seconds: float = 90
    ) -> None:
        """Sweep, and replace dead workers, until the scan has ended by itself."""

        def has_ended() -> bool:
            if workers is not None:
                self.man(workers)
            return not scan.is_active

        self.await_that(scan, has_ended, seconds=seconds)

    def await_that(
        self, scan: Scan, holds: Callable[[], bool], *, seconds: float = 90
    ) -> None:
        """Sweep for lost work until something holds of the scan."""

        errors: list[str] = []

        def look() -> bool:
            try:
                self._sweep()
                scan.refresh_from_db()
                return holds()
            except SERVER_IS_AWAY as error:
                errors.append(repr(error))
                connections["default"].close()
                return False

        try:
            wait_for(look, seconds=seconds, every=0.05)
        except AssertionError:
            shards = list(
                scan.shards.values_list("number", "state", "attempts", "message")
            )
            what = f"scan: {scan.state} {scan.message}\nshards: {shards}\n"
            what += f"errors of the sweep: {errors[-3:]}\n"
            raise AssertionError(what + self.last_words()) from None

    def _sweep(self) -> None:
        if self._sweeps and time.monotonic() - self._swept_at > SWEEP_S:
            self._swept_at = time.monotonic()
            tasks.recover_lost_work()

    def check_it_works_on(self) -> None:
        """Run a short scan with the workers that there are."""
        scan = self.start(split="val")
        self.send(scan)
        self.await_end(scan, workers=None)
        assert scan.state == Scan.State.DONE, scan.message

    @property
    def orders(self) -> Path:
        """Folder of the orders to the storage."""
        return self.var / "orders"

    def shards_done(self, scan: Scan) -> int:
        return scan.shards.filter(state=Shard.State.DONE).count()

    def last_words(self) -> str:
        """Return the end of each living worker's log."""
        return "\n".join(
            f"--- {worker.log.name}\n{worker.said[-3000:]}" for worker in self.workers
        )

    # --- servers ----------------------------------------------------------------

    def stop_postgres(self, number: signal.Signals) -> None:
        """SIGINT: the fast mode. SIGQUIT: at once, as after a crash."""
        connections["default"].close()
        self._stop(POSTGRES, number)

    def stop_valkey(self, number: signal.Signals) -> None:
        self._stop(VALKEY, number)

    def _stop(self, server: tuple[str, str], number: signal.Signals) -> None:
        folder, pid_file = server
        os.kill(int((self.var / folder / pid_file).read_text().split()[0]), number)
        wait_for(lambda: not is_locked(self.var, f"{folder}.lock"))

    def start_servers(self) -> None:
        """Start what is down."""
        services.ensure(self.var)


def _point_at(database: dict, broker_url: str) -> None:
    connections["default"].close()
    connections.settings["default"] = database
    del connections["default"]
    # Each by itself: a test that changed one of them has left it set.
    app.conf.broker_url = broker_url
    app.conf.broker_read_url = app.conf.broker_write_url = broker_url
    app._pool = None
    app.amqp._producer_pool = None


def check_undisturbed(
    plant: Plant, scan: Scan, *, but: str = "", **options: object
) -> None:
    """Check that the scan left exactly what an undisturbed one leaves.

    Args:
        plant: Where the scan ran.
        scan: It has ended.
        but: A fact that may differ.
        **options: Those of the scan.
    """
    if but != "files":
        settle(scan)
    differences = differing(facts(scan), plant.reference(**options))
    if [name for name in differences if name != but]:
        raise AssertionError(
            f"{scan} ({scan.state}: {scan.message}) differs in {differences}"
        )
