"""What a webhook may reach, and what it may not; against real servers on loopback."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from reviewapp.exceptions import Refused
from reviewapp.posting import NotSent, post, target_of
from tests.receivers import receiving


@pytest.fixture
def receiver(settings):
    with receiving() as receiver:
        settings.WEBHOOK_HOSTS = [f"127.0.0.1:{receiver.port}"]
        settings.WEBHOOK_HTTP = True
        settings.WEBHOOK_SECONDS = 5
        yield receiver


@pytest.fixture
def names(monkeypatch):
    """Let names stand for addresses, each time the next ones; keep who was looked up."""
    known: dict[str, list[list[str]]] = {}
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host not in known:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        answers = known[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, 1, 6, "", (one, port))
            for one in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    known["asked"] = asked
    return known


def send(url: str) -> int:
    return post(url, body=b'{"a": 1}', headers={"webhook-id": "1"})


def why_not(url: str) -> NotSent:
    with pytest.raises(NotSent) as caught:
        send(url)
    return caught.value


def test_it_sends_the_body_and_the_headers(receiver) -> None:
    assert send(receiver.url("/in?room=7")) == 204
    [got] = receiver.requests
    assert (got.path, got.body) == ("/in?room=7", b'{"a": 1}')
    assert got.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "content-length": "8",
        "connection": "close",
        "webhook-id": "1",
    }


@pytest.mark.parametrize("status", [400, 401, 410, 500, 503])
def test_a_receiver_that_refuses_is_a_failure_with_its_status(status, receiver) -> None:
    receiver.status = status
    error = why_not(receiver.url())
    assert (error.status, error.final) == (status, False)
    assert str(error) == f"127.0.0.1 answers {status}."


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status, receiver, settings) -> None:
    with receiving() as secret:
        settings.WEBHOOK_HOSTS.append(f"127.0.0.1:{secret.port}")
        receiver.status, receiver.location = status, secret.url("/admin")
        error = why_not(receiver.url())
        assert error.status == status
        assert "not followed" in str(error)
        assert len(receiver.requests) == 1
        assert secret.requests == []


@pytest.mark.parametrize("pause", [0.1, 30])
def test_a_slow_receiver_is_given_up_at_the_deadline(pause, receiver, settings) -> None:
    """One that sends a byte now and then is as slow as one that sends nothing."""
    settings.WEBHOOK_SECONDS, receiver.pause = 0.5, pause
    started = time.monotonic()
    assert "did not answer within 0.5 seconds" in str(why_not(receiver.url()))
    assert 0.4 < time.monotonic() - started < 3
    receiver.pause = 0


@pytest.mark.parametrize("raw", [b"SSH-2.0-x\r\n", b"x" * 5000, b"HTTP/1.1 099 a\r\n"])
def test_what_does_not_speak_http_is_a_failure(raw, receiver) -> None:
    receiver.raw = raw
    assert "its answer is not one of HTTP" in str(why_not(receiver.url()))


def test_a_receiver_that_is_not_there_is_a_failure(receiver, settings) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings.WEBHOOK_HOSTS.append(f"127.0.0.1:{port}")
    error = why_not(f"http://127.0.0.1:{port}/")
    assert "cannot be reached: Connection refused" in str(error)
    assert not error.final


def test_without_a_list_no_host_is_allowed(receiver, settings) -> None:
    settings.WEBHOOK_HOSTS = []
    error = why_not(receiver.url())
    assert "HARDMINE_WEBHOOK_HOSTS" in str(error)
    assert error.final
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://hooks.example.org/in", True),
        ("https://HOOKS.example.org./in", True),
        ("https://hooks.example.org:443/in", True),
        ("https://hooks.example.org:8443/in", False),
        ("https://hooks.example.org.evil.example/in", False),
        ("https://xhooks.example.org/in", False),
        ("https://a.team.example/in", True),
        ("https://a.b.team.example/in", True),
        ("https://team.example/in", False),
        ("https://ateam.example/in", False),
        ("https://[::1]:9000/in", True),
        ("https://chat.example:9001/in", True),
        ("https://chat.example/in", False),
    ],
)
def test_a_host_is_allowed_by_its_name_and_port(url, allowed, settings) -> None:
    settings.WEBHOOK_HOSTS = [
        "hooks.example.org",
        "*.team.example",
        "[::1]:9000",
        "chat.example:9001",
        "broken:port",
    ]
    if allowed:
        assert target_of(url).path == "/in"
    else:
        with pytest.raises(Refused, match="not among the hosts"):
            target_of(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example/", "in the clear"),
        ("ftp://hooks.example/", "begin with https://"),
        ("file:///etc/passwd", "begin with https://"),
        ("hooks.example", "begin with https://"),
        ("https://", "begin with https://"),
        ("", "letters, digits and signs"),
        ("https://hooks.example/ in", "no space"),
        ("https://hooks.example/\r\nHost: other", "no space"),
        ("https://hooks.example/\0", "no space"),
        ("https://höoks.example/", "xn--"),
        ("https://me:secret@hooks.example/", "user name or password"),
        ("https://hooks.example@evil.example/", "user name or password"),
        ("https://hooks.example:99999/", "cannot be read"),
        ("https://hooks.example:x/", "cannot be read"),
        ("https://[::1/", "cannot be read"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url, why, settings) -> None:
    settings.WEBHOOK_HOSTS, settings.WEBHOOK_HTTP = ["*"], False
    with pytest.raises(Refused, match=why):
        target_of(url)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "0", "[::]"],
)
def test_a_wildcard_never_leads_into_the_own_network(host, receiver, settings) -> None:
    settings.WEBHOOK_HOSTS = [f"*:{receiver.port}"]
    assert "own network" in str(why_not(receiver.url(host=host)))
    assert receiver.requests == []


@pytest.mark.parametrize(
    "address",
    [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "240.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "fd00::1",
        "fe80::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fec0::1",
        "192.0.0.192",
    ],
)
def test_a_public_name_of_an_inner_address_is_refused(
    address, receiver, settings, names
) -> None:
    settings.WEBHOOK_HOSTS = [f"*.example:{receiver.port}"]
    names["hooks.example"] = [["93.184.215.14", address]]
    error = why_not(receiver.url(host="hooks.example"))
    assert "own network" in str(error)
    assert address not in str(error)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "::"])
def test_the_address_of_a_clouds_credentials_is_refused_even_when_listed(
    address, receiver, settings, names
) -> None:
    settings.WEBHOOK_HOSTS = [f"hooks.example:{receiver.port}"]
    names["hooks.example"] = [[address]]
    assert "own network" in str(why_not(receiver.url(host="hooks.example")))


def test_what_was_looked_up_is_what_is_connected_to(receiver, settings, names) -> None:
    """A name that stands for something else a moment later leads nowhere else."""
    with receiving() as other:
        settings.WEBHOOK_HOSTS = [f"hooks.example:{receiver.port}"]
        names["hooks.example"] = [["127.0.0.1"], ["127.0.0.2"]]
        assert send(receiver.url(host="hooks.example")) == 204
        assert names["asked"] == ["hooks.example"]
        assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"
        assert other.requests == []


def test_the_next_address_is_tried_when_one_does_not_answer(
    receiver, settings, names
) -> None:
    settings.WEBHOOK_HOSTS = [f"hooks.example:{receiver.port}"]
    names["hooks.example"] = [["::1", "127.0.0.1"]]
    assert send(receiver.url(host="hooks.example")) == 204


@pytest.mark.parametrize(
    "host", ["no.such.host.invalid", "x" * 64 + ".example", "a..b"]
)
def test_a_name_that_nobody_has_is_a_failure(host, receiver, settings) -> None:
    settings.WEBHOOK_HOSTS = [f"*:{receiver.port}"]
    assert "is not known" in str(why_not(receiver.url(host=host)))


@pytest.fixture
def certificate(tmp_path):
    """Return the files of a certificate for hooks.example, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("hooks.example"),
                    x509.IPAddress(ipaddress.ip_address("127.0.0.9")),
                ]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.fixture
def secure(certificate, settings, names):
    with receiving(certificate) as receiver:
        settings.WEBHOOK_SECONDS = 5
        settings.WEBHOOK_HOSTS = [
            f"{n}.example:{receiver.port}" for n in ("hooks", "a")
        ]
        names["hooks.example"] = names["a.example"] = [["127.0.0.1"]]
        yield receiver


def test_it_speaks_https_with_a_host_that_can_prove_its_name(
    secure, certificate, monkeypatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert send(f"https://hooks.example:{secure.port}/in") == 204
    assert secure.requests[0].body == b'{"a": 1}'


@pytest.mark.parametrize(("host", "known"), [("hooks", False), ("a", True)])
def test_a_certificate_of_nobody_or_of_another_host_is_refused(
    host, known, secure, certificate, monkeypatch
) -> None:
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    error = why_not(f"https://{host}.example:{secure.port}/in")
    assert "certificate verify failed" in str(error).lower()
    assert secure.requests == []
