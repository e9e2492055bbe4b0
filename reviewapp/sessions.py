"""Sessions in the database, by the keys that Django makes."""

from __future__ import annotations

from django.contrib.sessions.backends import db


class SessionStore(db.SessionStore):
    """Django's store; a cookie that cannot be a key is no session.

    A quoted cookie can carry NUL, which PostgreSQL refuses; Django checks the length
    alone and would look it up.
    """

    def _validate_session_key(self, key: str | None) -> bool:
        return key is not None and key.isascii() and key.isalnum() and len(key) >= 8
