"""What PostgreSQL and Valkey do while a benchmark runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass


class Watch:
    """Looks at the database every 50 ms: who is there, who waits, and what for."""

    def __init__(self) -> None:
        self.connections = self.looks = 0
        self.waits: Counter[str] = Counter()  # event -> sessions, summed over looks
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        from django.db import connection

        while not self._stop.wait(0.05):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT CASE WHEN state = 'active' THEN coalesce("
                    "         wait_event_type || ' ' || wait_event || CASE wait_event_type"
                    "         WHEN 'Lock' THEN ' in ' || split_part(ltrim(query, E'\\n '), ' ', 1)"
                    "         ELSE '' END,"
                    "         'CPU') END"
                    "  FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    "   AND pid <> pg_backend_pid()"
                )
                events = [event for (event,) in cursor.fetchall()]
            self.connections = max(self.connections, len(events))
            self.waits.update(event for event in events if event)
            self.looks += 1
        connection.close()

    def __str__(self) -> str:
        common = self.waits.most_common(6)
        return ", ".join(f"{n / max(self.looks, 1):.1f} {event}" for event, n in common)


@dataclass(frozen=True, slots=True)
class Meters:
    """Counters of both servers, at one moment."""

    at: float
    wal: int  # bytes
    tables: int  # bytes of findings and sightings with their indexes
    postgres: float  # seconds of CPU
    commands: int  # that Valkey has carried out

    @classmethod
    def read(cls) -> Meters:
        import redis
        from django.conf import settings
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_current_wal_insert_lsn() - '0/0',"
                "       pg_total_relation_size('reviewapp_finding')"
                "       + pg_total_relation_size('reviewapp_sighting'),"
                "       pg_read_file('postmaster.pid')"
            )
            wal, tables, pid_file = cursor.fetchone()
        valkey = redis.Redis.from_url(settings.CACHES["default"]["LOCATION"])
        commands = valkey.info("stats")["total_commands_processed"]
        valkey.close()
        return cls(
            time.time(),
            int(wal),
            int(tables),
            server_cpu(int(pid_file.split()[0])),
            commands,
        )


def server_cpu(postmaster: int) -> float:
    """Return the CPU seconds of PostgreSQL, of connections that have ended too."""
    import psutil

    server = psutil.Process(postmaster)
    own = server.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in server.children():
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
