"""A server of the S3 protocol on this machine, in a process of its own.

The access key says who asks: a `worker` may use every bucket but `forbidden`, the `web`
process only `storage`. Every request is written to a log that tests read.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

BUCKETS = ("cells", "models", "storage", "forbidden")
ALLOWED = {"worker": {"cells", "models", "storage"}, "web": {"storage"}}
DENIED = (
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>'
    b"<Message>Access Denied</Message></Error>"
)


@dataclass(frozen=True, slots=True)
class Buckets:
    """A running server: where it listens and what it was asked."""

    endpoint: str
    log: Path

    def environment(self, who: str) -> dict[str, str]:
        """Return the variables with which a process becomes `who`."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": who,
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Return a boto3 client of the worker."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="worker",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )

    def requests(self) -> list[str]:
        """Return what was asked since the last time, as "worker GET /bucket/key"."""
        lines = self.log.read_text().splitlines()
        self.log.write_text("")
        return lines


@contextmanager
def buckets(folder: Path) -> Iterator[Buckets]:
    """Run a server with empty buckets until the block ends."""
    log = folder / "requests.log"
    log.touch()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.buckets", str(port), str(log)],
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, port)
        server = Buckets(f"http://127.0.0.1:{port}", log)
        client = server.client()
        for name in BUCKETS:
            client.create_bucket(Bucket=name)
        client.close()
        server.requests()
        yield server
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "the bucket server ended"
        assert time.monotonic() < deadline, "the bucket server did not start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


class _Guard:
    """Logs each request and lets through what its access key may do."""

    def __init__(self, app: Any, log: Path) -> None:
        self._app = app
        self._log = log

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        query = unquote(environ.get("QUERY_STRING", ""))
        method = environ["REQUEST_METHOD"]
        credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2]
        who = credential.partition("/")[0]
        with self._log.open("a") as log:
            log.write(f"{who} {method} {path}{'?' + query if query else ''}\n")
        bucket = path.strip("/").partition("/")[0]
        allowed = ALLOWED.get(who, set())
        making = method == "PUT" and path.strip("/") == bucket
        if bucket in allowed or making:
            return self._app(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status = HTTPStatus.FORBIDDEN
        headers = [("Content-Type", "application/xml")]
        start(f"{status.value} {status.phrase}", headers)
        return [b"" if method == "HEAD" else DENIED]


def main(port: int, log: Path) -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    make_server(
        "127.0.0.1",
        port,
        _Guard(app, log),
        threaded=True,
        request_handler=MotoRequestHandler,
    ).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
