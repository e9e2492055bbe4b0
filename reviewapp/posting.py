"""Sending a POST to an address that a person gave, and to nothing else.

The server may reach what that person may not. So: only hosts that whoever runs the server
has listed; the addresses that the name stands for are looked at, and one of these very
addresses is connected to; no redirect is followed; the answer is not read, but for its
status; all of it within a deadline, but for the look-up, which the system bounds.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from reviewapp.exceptions import Refused

PORTS: Final = {"https": 443, "http": 80}
# Visible ASCII: nothing that could begin another header or request.
_PLAIN: Final = re.compile(r"[!-~]+")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)[ \r\n]")
_LONGEST_STATUS_LINE: Final = 1024
# What `is_global` takes for public, but is not for certain. IPv6 addresses that carry an
# IPv4 address to somewhere else (NAT64, 6to4, Teredo); the local ones before fc00::/7; and
# what Python knows since 3.11.10 only: there is a cloud with its credentials in it.
_NOT_PUBLIC: Final = tuple(
    ip_network(net)
    for net in (
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "fec0::/10",
        "192.0.0.0/24",
    )
)


class NotSent(Exception):  # noqa: N818 (says what is wrong)
    """The receiver did not take it; the message is for people.

    Attributes:
        status: Of its answer; None: there was none.
        final: Whether another attempt would meet the same.
    """

    def __init__(
        self, message: str, *, status: int | None = None, final: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.final = final


@dataclass(frozen=True, slots=True)
class Target:
    """Where a POST goes.

    Attributes:
        host: Lower case, as it stands in the address, without brackets.
        port: TCP port.
        path: Path and query, as sent.
        secure: Whether by TLS.
        may_be_inside: Whether the host is listed by its name, so that it may be one of
            the own network.
    """

    host: str
    port: int
    path: str
    secure: bool
    may_be_inside: bool

    @property
    def header(self) -> str:
        """Return what the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = PORTS["https" if self.secure else "http"]
        return host if self.port == usual else f"{host}:{self.port}"


def target_of(url: str) -> Target:
    """Return where an address leads.

    Raises:
        Refused: It cannot be used, or its host is not allowed by the server's settings.
    """
    parts, port = _split(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in PORTS or not host:
        raise Refused("The address has to begin with https:// and the name of a host.")
    if parts.scheme == "http" and not settings.WEBHOOK_HTTP:
        raise Refused(
            "The address has to begin with https://: this server does not send what it "
            "knows in the clear (HARDMINE_WEBHOOK_HTTP)."
        )
    port = port or PORTS[parts.scheme]
    rules = [
        rule for rule in settings.WEBHOOK_HOSTS if _allows(rule, parts, host, port)
    ]
    if not rules:
        raise Refused(
            f"{host}, port {port}, is not among the hosts that this server may send to. "
            "Whoever runs it lists them in HARDMINE_WEBHOOK_HOSTS."
        )
    return Target(
        host=host,
        port=port,
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        secure=parts.scheme == "https",
        may_be_inside=any("*" not in rule for rule in rules),
    )


def _split(url: str) -> tuple[SplitResult, int | None]:
    if not _PLAIN.fullmatch(url):
        raise Refused(
            "The address may hold letters, digits and signs of ASCII alone, and no "
            "space; write others as %20, and a host as xn--…"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(f"The address cannot be read: {error}.") from error
    if "@" in parts.netloc:
        raise Refused(
            "The address may not hold a user name or password before the host."
        )
    return parts, port


def _allows(rule: str, parts: SplitResult, host: str, port: int) -> bool:
    """Whether an entry of the allowed hosts is about this one.

    An entry is a host, `*.` and a domain, or `*`; a port may follow, else the usual one of
    the scheme is meant.
    """
    try:
        entry = urlsplit(f"//{rule.strip()}")
        wanted = entry.port or PORTS[parts.scheme]
    except ValueError:  # an entry that cannot be read allows nothing
        return False
    name = entry.hostname or ""
    same = host == name or name == "*" or (name[:2] == "*." and host.endswith(name[1:]))
    return same and port == wanted


def post(url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
    """Send `body` and return the status of the answer, 200-299.

    Args:
        url: As `target_of` takes it.
        body: Sent as it is.
        headers: Beside Host, Content-Length and Connection; values in visible ASCII.

    Raises:
        NotSent: Not allowed, not reachable, too slow, or another status.
    """
    deadline = time.monotonic() + settings.WEBHOOK_SECONDS
    try:
        target = target_of(url)
    except Refused as error:
        raise NotSent(str(error), final=True) from error
    head = {
        "Host": target.header,
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    lines = [f"POST {target.path} HTTP/1.1", *(f"{k}: {v}" for k, v in head.items())]
    request = "\r\n".join([*lines, "", ""]).encode("ascii") + body
    try:
        with _connection(target, _addresses(target), deadline) as connection:
            connection.settimeout(_left(deadline))
            connection.sendall(request)
            status = _status(connection, deadline)
    except TimeoutError as error:
        raise NotSent(
            f"{target.host} did not answer within {settings.WEBHOOK_SECONDS:g} seconds."
        ) from error
    except OSError as error:  # TLS's errors are among them
        why = error.strerror or str(error)
        raise NotSent(f"{target.host} cannot be reached: {why}.") from error
    _require_success(target, status)
    return status


def _require_success(target: Target, status: int) -> None:
    if 300 <= status < 400:
        raise NotSent(
            f"{target.host} answers {status}: it sends on to another address, which is "
            "not followed. Give that address itself.",
            status=status,
        )
    if status >= 400:
        raise NotSent(f"{target.host} answers {status}.", status=status)


def _addresses(target: Target) -> list[tuple[Any, ...]]:
    """Return (family, address) of the host, each one that may be connected to.

    Raises:
        NotSent: It is unknown, or one of its addresses may not be connected to.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSent(f"The host {target.host} is not known: {error}.") from error
    for _, _, _, _, address in found:
        if not _may_connect(str(address[0]), target):
            raise NotSent(
                # Without the address: who asks may not know the network's names.
                f"{target.host} is in this server's own network. It is sent to only when "
                "HARDMINE_WEBHOOK_HOSTS names the host itself."
            )
    return [(family, address) for family, _, _, _, address in found]


def _may_connect(text: str, target: Target) -> bool:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    # Clouds give out a machine's credentials at link-local addresses: never these.
    never = address.is_link_local or address.is_multicast or address.is_unspecified
    inside = any(
        address in net for net in _NOT_PUBLIC if net.version == address.version
    )
    outside = address.is_global and not address.is_reserved and not inside
    return not never and (outside or target.may_be_inside)


def _connection(
    target: Target, addresses: list[tuple[Any, ...]], deadline: float
) -> socket.socket:
    """Connect to the first address that answers; by TLS with the host's certificate."""
    failed: OSError = OSError("it has no address")
    for family, address in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(address)
            if not target.secure:
                return connection
            return ssl.create_default_context().wrap_socket(
                connection, server_hostname=target.host
            )
        except OSError as error:
            connection.close()
            failed = error
    raise failed


def _status(connection: socket.socket, deadline: float) -> int:
    """Read the first line of the answer and return its status; nothing more is read.

    Raises:
        OSError: It is none of HTTP, or ends before.
    """
    line = b""
    while b"\n" not in line and len(line) < _LONGEST_STATUS_LINE:
        # Set anew: a byte now and then must not keep the worker for ever.
        connection.settimeout(_left(deadline))
        part = connection.recv(_LONGEST_STATUS_LINE)
        if not part:
            break
        line += part
    found = _STATUS_LINE.match(line)
    if not found:
        raise OSError("its answer is not one of HTTP")
    return int(found[1])


def _left(deadline: float) -> float:
    """Return the seconds left.

    Raises:
        TimeoutError: None are.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
