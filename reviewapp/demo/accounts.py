"""Two accounts for the demo, with random passwords that are kept in one file."""

from __future__ import annotations

import secrets
from pathlib import Path

from reviewapp.models import User

ADMIN, REVIEWER = "admin", "reviewer"


def ensure_accounts(path: Path) -> dict[str, str | None]:
    """Create the accounts that are missing.

    An account that exists is left alone, whoever made it.

    Args:
        path: File of the passwords: a name and a password a line, for its owner only.

    Returns:
        User name -> password; None when it is another than this file knows.
    """
    known = (
        dict(line.split() for line in path.read_text().splitlines())
        if path.exists()
        else {}
    )
    accounts: dict[str, str | None] = {}
    for name in (ADMIN, REVIEWER):
        user = User.objects.filter(username=name).first()
        if user is None:
            known[name] = secrets.token_urlsafe(12)
            # First the file: a password that nobody knows would be no use.
            _write(path, known)
            if name == ADMIN:
                User.objects.create_superuser(name, password=known[name])
            else:
                User.objects.create_user(name, password=known[name])
        elif not user.check_password(known.get(name, "")):
            accounts[name] = None
            continue
        accounts[name] = known[name]
    return accounts


def _write(path: Path, passwords: dict[str, str]) -> None:
    partial = path.with_suffix(".part")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text("".join(f"{name} {word}\n" for name, word in passwords.items()))
    partial.replace(path)
