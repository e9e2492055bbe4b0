"""The real web server over a world of findings, and clients that are signed in."""

from __future__ import annotations

import http.client
import re
import secrets
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from tests.benchmarks.scratch import ROOT

# As the image of production starts it, but for the address.
GUNICORN = ["--workers", "2", "--threads", "8", "--worker-tmp-dir", "/dev/shm"]
SITE = "tests.benchmarks.review_site"
YARDSTICK = "/yardstick/"
READY = 3  # desks that the page holds, the one shown among them


@contextmanager
def serving(environment: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Serve the site with collected static files and give its host and port."""
    environment = {
        **environment,
        "DJANGO_SETTINGS_MODULE": SITE,
        "HARDMINE_STATIC_ROOT": str(folder / "static"),
    }
    collect = [sys.executable, "manage.py", "collectstatic", "--noinput", "-v", "0"]
    subprocess.run(collect, cwd=ROOT, env=environment, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    words = ["-m", "gunicorn", "reviewapp.wsgi:application", "--bind", host, *GUNICORN]
    with (folder / "gunicorn.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            _wait_for(host, server)
            yield host
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(host: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection(host, timeout=5)
            connection.request("GET", "/healthz/")
            if connection.getresponse().status == 200:
                return
        except OSError:
            if server.poll() is not None:
                break
        time.sleep(0.1)
    raise RuntimeError("gunicorn did not start; see gunicorn.log")


def cookies_of(username: str) -> dict[str, str]:
    """Sign somebody in, and return the cookies of the session."""
    from django.contrib.auth import (
        BACKEND_SESSION_KEY,
        HASH_SESSION_KEY,
        SESSION_KEY,
    )

    from reviewapp.models import User
    from reviewapp.sessions import SessionStore

    user = User.objects.get(username=username)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "reviewapp.sessions.People"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return {"sessionid": session.session_key, "csrftoken": secrets.token_hex(16)}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """A person's connection, kept alive."""

    def __init__(self, host: str, cookies: Mapping[str, str]) -> None:
        self.cookies = dict(cookies)
        self.connection = http.client.HTTPConnection(host, timeout=60)

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, urlencode(fields), {**kind, **headers})

    def _ask(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> Answer:
        sent = {
            "Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()),
            "X-CSRFToken": self.cookies["csrftoken"],
            **headers,
        }
        for trial in (1, 2):
            started = time.perf_counter()
            try:
                self.connection.request(method, path, body, sent)
                response = self.connection.getresponse()
                data = response.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionError):
                # The server closes what was idle for two seconds.
                self.connection.close()
                if trial == 2:
                    raise
        took = time.perf_counter() - started
        return Answer(response.status, response.headers, data, took)


@dataclass(frozen=True, slots=True)
class Desk:
    """One finding as the page has it."""

    finding: int
    version: str
    relabel_to: str  # a label id; empty: none is offered


ARTICLE = re.compile(r'data-finding="(\d+)" data-version="(\d+)"')
GUESS = re.compile(r'name="relabel_to" value="(\d+)"')
SCRIPT = {"Hardmine-Desk": "1"}  # as the desk's script asks


@dataclass
class Reviewer:
    """Somebody at the desk: gives verdicts and is handed the next findings."""

    client: Client
    slug: str
    queue: str = ""  # query string
    desks: deque[Desk] = field(default_factory=deque)  # the one shown, and those ready
    shown: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Take the first findings of the queue."""
        fields = dict(parse_qsl(self.queue), count=str(READY))
        answer = self.client.post(
            f"/datasets/{self.slug}/review/next/", fields, **SCRIPT
        )
        assert answer.status == 200, answer.text[:500]
        self.desks.clear()
        self._take(answer)

    def decide(self, verdict: str, key: str) -> Answer:
        """Give a verdict on what is on the desk; the answer brings one more."""
        desk = self.desks.popleft()
        fields = {"version": desk.version, "verdict": verdict, "key": key}
        fields["beside"] = ",".join(str(other.finding) for other in self.desks)
        if verdict == "relabel":
            fields["new_label"] = desk.relabel_to
        address = f"/datasets/{self.slug}/review/{desk.finding}/decide/?{self.queue}"
        answer = self.client.post(address, fields, **SCRIPT)
        if answer.status == 200:
            self._take(answer)
        return answer

    def _take(self, answer: Answer) -> None:
        for part in answer.text.split("<article ")[1:]:
            found, choice = ARTICLE.search(part), GUESS.search(part)
            assert found, part[:500]
            self.desks.append(
                Desk(int(found[1]), found[2], choice[1] if choice else "")
            )
            self.shown.append(int(found[1]))
        assert self.desks, answer.text[:2000]
