"""A PostgreSQL that commits a claim, or what a shard found, and dies before it says so."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

SHARD_IS_CLAIMED = b'"attempts" + 1'
SHARD_IS_RECORDED = b"INSERT INTO reviewapp_sighting"


class LossyProxy:
    """Passes connections on; swallows the answers to some commits and hangs up.

    Args:
        folder: Where its socket is made, as libpq's `host`.
        server: The socket of the real server.
        losses: How many answers to the commits of each kind to swallow.
    """

    def __init__(self, folder: Path, server: Path, *, losses: int) -> None:
        self.losses_left = Counter(
            dict.fromkeys((SHARD_IS_CLAIMED, SHARD_IS_RECORDED), losses)
        )
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
        done: set[bytes] = set()
        with suppress(OSError), client, server:
            while data := client.recv(1 << 16):
                done |= {kind for kind in self.losses_left if kind in data}
                if b"COMMIT" in data:
                    if any(self._is_to_be_lost(kind) for kind in done):
                        lost.set()
                    done.clear()
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

    def _is_to_be_lost(self, kind: bytes) -> bool:
        with self._lock:
            self.losses_left[kind] -= 1
            return self.losses_left[kind] >= 0
