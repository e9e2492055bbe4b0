"""manage.py create_token: a key to the API."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from reviewapp.actions.people import create_token
from reviewapp.management.base import DomainCommand, find_user


class Command(DomainCommand):
    help = "Make an API token for an account and print it, this once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user")

    def run(self, *, user: str, **options: Any) -> None:
        _, token = create_token(user=find_user(user), by=None)
        self.stdout.write(token)
        self.stderr.write(
            "Keep it: only its hash is stored. Send it as 'Authorization: Token ...'."
        )
