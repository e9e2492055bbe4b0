"""The embedded servers: real ones, held by real processes that die in every way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from kombu import Connection

from reviewapp import services_keeper
from reviewapp.services import Endpoints, ServiceError, ensure
from tests.reviewapp.holders import GRACE_S, Holder, alive, holding, wait_for


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Replace pytest's, whose parent any other pytest closes to PostgreSQL's user."""
    with tempfile.TemporaryDirectory(prefix="hardmine-services-") as name:
        yield Path(name)


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., Holder]]:
    """Start holders of ``tmp_path/var``, where nothing was before."""
    with holding(tmp_path / "var") as start:
        yield start


@pytest.fixture(scope="module")
def first_start() -> Iterator[Path]:
    """Give the data of a server after its first start, which costs more than a test."""
    with tempfile.TemporaryDirectory(prefix="hardmine-services-") as name:
        with holding(Path(name) / "var") as start:
            start(valkey=False).endpoints()
        yield Path(name) / "var/postgres"


@pytest.fixture
def hold_again(tmp_path: Path, first_start: Path) -> Iterator[Callable[..., Holder]]:
    """Start holders of ``tmp_path/var``, where a server was before."""
    (tmp_path / "var").mkdir()
    copy = ["cp", "-Rp", first_start, tmp_path / "var/postgres"]  # with its owner
    subprocess.run(copy, check=True)
    with holding(tmp_path / "var") as start:
        yield start


def pid_of(path: Path) -> int:
    return int(path.read_text().split()[0])


def keeper_pid(var: Path) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            command = (folder / "cmdline").read_bytes()
            if b"services_keeper.py\0%b\0" % os.fsencode(var) in command:
                return int(folder.name)
    pytest.fail("there is no keeper")


def store(endpoints: Endpoints, number: int) -> None:
    with psycopg.connect(endpoints.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (number int)")
        connection.execute("INSERT INTO kept VALUES (%s)", [number])


def stored(endpoints: Endpoints) -> list[int]:
    with psycopg.connect(endpoints.database_url) as connection:
        rows = connection.execute("SELECT number FROM kept ORDER BY number")
        return [number for (number,) in rows]


def test_processes_that_start_together_share_one_server(hold, tmp_path):
    answers = [holder.answer() for holder in [hold() for _ in range(4)]]

    assert not [answer["error"] for answer in answers if "error" in answer]
    again = [answer.pop("again_s") for answer in answers]
    assert all(answer == answers[0] for answer in answers)
    assert min(again) < 0.05
    endpoints = Endpoints(**answers[0])
    store(endpoints, 7)
    assert stored(endpoints) == [7]
    logs = tmp_path / "var/services"
    assert (logs / "postgres.log").read_text().count("starting PostgreSQL 18") == 1
    assert (logs / "valkey.log").read_text().count("Ready to accept connections") == 1


def test_the_database_is_utf8_local_and_can_store_vectors(hold_again):
    endpoints = hold_again(valkey=False, database='odd "name" é').endpoints()

    with psycopg.connect(endpoints.database_url) as connection:
        connection.execute("CREATE EXTENSION vector")
        row = connection.execute(
            "SELECT current_setting('server_encoding'), current_database(),"
            " current_setting('listen_addresses'), '[3,4]'::vector <-> '[0,0]',"
            " upper('é')"
        ).fetchone()
    assert row == ("UTF8", 'odd "name" é', "", 5.0, "É")
    store(endpoints, 1)
    with pytest.raises(psycopg.errors.UndefinedTable):
        stored(hold_again(valkey=False).endpoints())


def test_the_servers_stop_after_the_last_holder_is_killed(hold_again, tmp_path):
    var = tmp_path / "var"
    first, second = hold_again(), hold_again()
    endpoints = first.endpoints()
    second.answer()

    first.kill()
    time.sleep(5 * GRACE_S)
    store(endpoints, 1)
    second.kill()
    wait_for(lambda: not alive(var, "postgres", "valkey", "keeper"))
    log = var / "services/postgres.log"
    assert "database system is shut down" in log.read_text().splitlines()[-1]


def test_a_short_visit_in_the_grace_finds_the_server_and_prolongs_it(
    hold_again, tmp_path
):
    pid_file = tmp_path / "var/postgres/postmaster.pid"
    first = hold_again(grace_s=2)
    first.answer()
    before = pid_of(pid_file)
    first.kill()
    ended = time.monotonic()
    second = hold_again()
    second.answer()
    second.kill()
    time.sleep(max(0, ended + 2.5 - time.monotonic()))
    assert pid_of(pid_file) == before
    assert alive(tmp_path / "var", "postgres")


PID_FILES = ["postmaster.pid", ".s.PGSQL.5432.lock"]


def test_a_killed_postgres_starts_again_with_its_data(hold, tmp_path):
    endpoints = hold(valkey=False, durable=True).endpoints()
    for number, stale in enumerate([*PID_FILES, "empty"], start=1):
        store(endpoints, number)
        again = killed_and_held_again(hold, tmp_path / "var/postgres", stale)
        assert again == endpoints, stale
        assert stored(again) == list(range(1, number + 1)), stale
    # Not those of initdb, and a default that an admin can still change.
    with psycopg.connect(endpoints.database_url) as connection:
        usual = (
            "SELECT name, setting::int, source FROM pg_settings WHERE name = ANY(%s)"
        )
        names = ["max_wal_size", "shared_buffers"]
        [wal, buffers] = connection.execute(usual, [names]).fetchall()
    assert wal == ("max_wal_size", 2048, "configuration file")
    assert buffers[1] >= 128 * 128
    assert buffers[2] == "configuration file"


def killed_and_held_again(
    hold: Callable[..., Holder], home: Path, stale: str
) -> Endpoints:
    os.kill(pid_of(home / "postmaster.pid"), signal.SIGKILL)
    # The worst case: the old id now belongs to a stranger of the same user.
    stranger = subprocess.Popen(["sleep", "60"], user=home.stat().st_uid)
    if stale in PID_FILES:
        rest = (home / stale).read_text().split("\n", 1)[1]
        (home / stale).write_text(f"{stranger.pid}\n{rest}")
    else:  # as after a power cut
        (home / PID_FILES[0]).write_text("")
    again = hold(valkey=False, durable=True).endpoints()
    assert stranger.poll() is None, stale
    stranger.kill()
    stranger.wait()
    return again


def test_it_spares_a_stranger_that_has_the_id_of_a_dead_server(tmp_path):
    (tmp_path / "services").mkdir()
    (tmp_path / "postgres").mkdir()
    stranger = subprocess.Popen(["sleep", "60"])
    (tmp_path / "postgres/postmaster.pid").write_text(f"{stranger.pid}\n")

    # Children of the dead one still hold its lock.
    with services_keeper.opened(tmp_path, "postgres.lock") as lock:
        assert services_keeper.try_lock(lock)
        services_keeper.interrupt(tmp_path, *services_keeper.POSTGRES)
    with pytest.raises(subprocess.TimeoutExpired):
        stranger.wait(0.3)
    stranger.kill()
    stranger.wait()


def test_a_killed_keeper_is_replaced_by_the_next_process(hold_again, tmp_path):
    var = tmp_path / "var"
    first = hold_again()
    first.answer()
    os.kill(keeper_pid(var), signal.SIGKILL)
    wait_for(lambda: not alive(var, "keeper"))

    second = hold_again()
    second.answer()
    assert alive(var, "keeper")
    first.kill()
    second.kill()
    wait_for(lambda: not alive(var, "postgres", "valkey", "keeper"))


def test_the_queue_outlives_a_restart_and_a_stale_socket(hold, tmp_path):
    var = tmp_path / "var"
    endpoints = hold(postgres=False, durable=True).endpoints()
    with redis.Redis.from_url(endpoints.redis_url) as client:
        client.rpush("queue", "one", "two")
        assert client.config_get("port") == {"port": "0"}
    time.sleep(1.5)  # the file is synchronised every second
    os.kill(pid_of(var / "valkey/valkey.pid"), signal.SIGKILL)
    wait_for(lambda: not alive(var, "valkey"))
    assert (var / "valkey/valkey.sock").is_socket()

    again = hold(postgres=False, durable=True).endpoints()
    assert again == endpoints
    with redis.Redis.from_url(again.redis_url) as client:
        assert client.lrange("queue", 0, -1) == [b"one", b"two"]


def test_a_server_whose_socket_was_deleted_is_replaced(hold_again, tmp_path):
    var = tmp_path / "var"
    store(hold_again().endpoints(), 3)
    before = pid_of(var / "valkey/valkey.pid")
    (var / "postgres/.s.PGSQL.5432").unlink()
    (var / "valkey/valkey.sock").unlink()

    assert stored(hold_again().endpoints()) == [3]
    assert pid_of(var / "valkey/valkey.pid") != before


@pytest.mark.parametrize("name", ["a b'c$HOME", "a,b", "long" * 40])
def test_celery_and_redis_and_django_reach_an_awkward_directory(hold, tmp_path, name):
    endpoints = hold(tmp_path / name).endpoints()

    store(endpoints, 1)
    redis.Redis.from_url(endpoints.redis_url).ping()
    with Connection(endpoints.broker_url) as connection:
        queue = connection.SimpleQueue("jobs")
        queue.put({"scan": 1})
        assert queue.get(timeout=5).payload == {"scan": 1}
        queue.close()


def test_it_refuses_a_socket_directory_open_to_others(hold, tmp_path):
    var = tmp_path / ("long" * 40)
    holder = hold(var, postgres=False)
    directory = Path(holder.endpoints().redis_url[len("unix://") :]).parent
    directory.chmod(0o777)

    error = hold(var, postgres=False).answer()["error"]
    directory.chmod(0o700)
    assert str(directory) in error
    assert "open to others" in error


def test_an_interrupted_first_start_is_done_again(hold, tmp_path):
    half = tmp_path / "var/.postgres-new/base"
    half.mkdir(parents=True)
    (half / "1").write_text("half")

    store(hold(valkey=False).endpoints(), 1)
    assert not half.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("postgres", "mine", "postgres is not a PostgreSQL data directory"),
        ("postgres/mine", "mine", "postgres is not a PostgreSQL data directory"),
        ("postgres/PG_VERSION", "15\n", "was written by PostgreSQL 15"),
    ],
)
def test_it_keeps_data_that_it_cannot_run(hold, tmp_path, name, content, message):
    path = tmp_path / "var" / name
    path.parent.mkdir(parents=True)
    path.write_text(content)

    assert message in hold(valkey=False).answer()["error"]
    assert path.read_text() == content


def test_a_failed_start_shows_the_log_and_recovers_after_repair(hold_again, tmp_path):
    var = tmp_path / "var"
    holder = hold_again(valkey=False)
    store(holder.endpoints(), 9)
    holder.kill()
    wait_for(lambda: not alive(var, "postgres", "keeper"))
    settings = var / "postgres/postgresql.auto.conf"
    settings.write_text("no_such_setting = 1\n")

    error = hold_again(valkey=False).answer()["error"]
    assert str(var / "services/postgres.log") in error
    assert "no_such_setting" in error
    settings.write_text("")
    assert stored(hold_again(valkey=False).endpoints()) == [9]


def test_a_queue_that_cannot_be_read_is_reported_and_kept(hold, tmp_path):
    folder = tmp_path / "var/valkey/appendonlydir"
    folder.mkdir(parents=True)
    manifest = folder / "appendonly.aof.manifest"
    manifest.write_text("nonsense\n")

    error = hold(postgres=False).answer()["error"]
    assert "Valkey stopped while it was starting" in error
    assert str(tmp_path / "var/services/valkey.log") in error
    assert manifest.read_text() == "nonsense\n"


def test_it_says_which_directory_cannot_be_used(tmp_path):
    (tmp_path / "var").write_text("a file")

    with pytest.raises(ServiceError, match=r"var cannot be used: .*permissions"):
        ensure(tmp_path / "var")


def test_nothing_is_started_when_nothing_is_wanted(tmp_path):
    endpoints = ensure(tmp_path / "var", postgres=False, valkey=False)

    assert endpoints.redis_url == f"unix://{tmp_path}/var/valkey/valkey.sock?db=0"
    assert not (tmp_path / "var").exists()


def test_a_server_that_loads_its_data_is_waited_for(hold, tmp_path):
    """A stand-in answers as a server does in recovery, then as a ready one."""
    (tmp_path / "valkey").mkdir()
    (tmp_path / "services").mkdir()
    with socket.socket(socket.AF_UNIX) as stand_in:
        stand_in.bind(str(tmp_path / "valkey/valkey.sock"))
        stand_in.listen()
        holder = hold(tmp_path, postgres=False)
        loading, ready = b"-LOADING wait\r\n", b"+PONG\r\n"
        for answer in (loading, loading, ready, ready):
            connection, _ = stand_in.accept()
            with connection:
                assert connection.recv(64) == b"PING\r\n"
                connection.sendall(answer)
        assert "error" not in holder.answer()
    assert not (tmp_path / "services/valkey.log").exists()
