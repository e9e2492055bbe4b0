"""What the application refuses, and why. Messages are written for people."""

# ruff: noqa: N818 (the names say what is wrong; "Error" would add nothing)
from __future__ import annotations

from mining.text import storable


class HardmineError(Exception):
    """A request that cannot be carried out; nothing was changed."""

    status = 400


class Refused(HardmineError):
    """The request makes no sense as it stands."""


class NotAllowed(HardmineError):
    """The person may see the object but not do this."""

    status = 403


class AlreadyRunning(HardmineError):
    """The same work is still going on."""

    status = 409


class FindingChanged(HardmineError):
    """The finding is not what the reviewer saw any more."""

    status = 409


class FindingHeld(HardmineError):
    """Another reviewer holds the finding."""

    status = 409


def plain_message(error: BaseException) -> str:
    """Return an error's message as text that the database and a page can hold."""
    return storable(str(error) or type(error).__name__)
