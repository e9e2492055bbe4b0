"""A PostgreSQL that commits what a shard found and dies before it says so."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

SHARD_IS_RECORDED = b"INSERT INTO reviewapp_sighting"


class LossyProxy:
    """Passes connections on; swallows the answers to some commits and hangs up.

    Args:
        folder: Where its socket is made, as libpq's `host`.
        server: The socket of the real server.
        losses: How many answers to swallow.
    """

    def __init__(self, folder: Path, server: Path, *, losses: int) -> None:
        self.losses_left = losses
        self._server = server
        self._lock = threading.Lock()
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(str(folder / server.name))
        self._door.listen()
        threading.Thread(target=self._receive, daemon=True).start()

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()

    def _receive(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                server.connect(str(self._server))
                answer_is_lost = threading.Event()
                for work in (self._to_server, self._to_client):
                    threading.Thread(
                        target=work, args=(client, server, answer_is_lost), daemon=True
                    ).start()

    def _to_server(
        self, client: socket.socket, server: socket.socket, lost: threading.Event
    ) -> None:
        recorded = False
        with suppress(OSError), client, server:
            while data := client.recv(1 << 16):
                recorded |= SHARD_IS_RECORDED in data
                if recorded and b"COMMIT" in data:
                    recorded = False
                    if self._is_to_be_lost():
                        lost.set()
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _to_client(
        self, client: socket.socket, server: socket.socket, lost: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if lost.is_set():
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def _is_to_be_lost(self) -> bool:
        with self._lock:
            self.losses_left -= 1
            return self.losses_left >= 0
