"""Real receivers on loopback: a web server that keeps what it is sent, and a mail server."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller


@dataclass(slots=True)
class Request:
    """One that was received."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """A web server and how it behaves.

    Attributes:
        port: Where it listens on 127.0.0.1.
        status: What it answers.
        location: Where it sends on to; empty: nowhere.
        pause: Seconds before each byte of the answer's first line.
        raw: Answered in place of HTTP.
        requests: What it got.
    """

    port: int = 0
    status: int = 204
    location: str = ""
    pause: float = 0
    raw: bytes = b""
    requests: list[Request] = field(default_factory=list)

    def url(self, path: str = "/in", host: str = "127.0.0.1") -> str:
        """Return an address of it."""
        return f"http://{host}:{self.port}{path}"


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.requests.append(Request(self.path, headers, body))
            answer = (
                receiver.raw
                or (
                    f"HTTP/1.1 {receiver.status} Whatever\r\n"
                    f"Location: {receiver.location}\r\nContent-Length: 0\r\n\r\n"
                ).encode()
            )
            try:
                for byte in answer:
                    self.wfile.write(bytes([byte]))
                    time.sleep(receiver.pause)
            except OSError:  # the sender has given up
                self.close_connection = True

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def receiving(certificate: tuple[Path, Path] | None = None) -> Iterator[Receiver]:
    """Run a web server; with a certificate and its key by HTTPS."""
    receiver = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(slots=True)
class Mailbox:
    """What a mail server took, and what it answers to each recipient."""

    port: int = 0
    answer: str = "250 OK"
    mails: list[Any] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 (aiosmtpd's name)
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        """Take or refuse a recipient."""
        if self.answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Keep a mail."""
        self.mails.append(envelope)
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Run an SMTP server on a free port of loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        box = Mailbox(port=free.getsockname()[1])
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()
