"""Who may see and do what on a data set, and keys to the API."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from knox.models import AuthToken

from reviewapp.exceptions import Refused
from reviewapp.models import Membership, Role
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import Dataset, User


def set_role(
    *, dataset: Dataset, user: User, role: Role, by: User | None
) -> Membership:
    """Make the person a member with this role, or change their role.

    Raises:
        Refused: The data set would be left without an admin.
    """
    with transaction.atomic():
        if role is not Role.ADMIN:
            _keep_an_admin(dataset, user)
        membership, _ = Membership.objects.update_or_create(
            dataset=dataset, user=user, defaults={"role": role}
        )
        record("role set", membership, dataset=dataset, actor=by, role=role)
    return membership


def remove_member(*, membership: Membership, by: User) -> None:
    """Take a person off a data set; their verdicts stay.

    Raises:
        Refused: The data set would be left without an admin.
    """
    with transaction.atomic():
        _keep_an_admin(membership.dataset, membership.user)
        record("member removed", membership, dataset=membership.dataset, actor=by)
        membership.delete()


def create_token(
    *, user: User, by: User | None, lifetime: timedelta | None = None
) -> tuple[AuthToken, str]:
    """Make an API token; only its hash is stored, so show the key now.

    Args:
        user: Whose rights the token has.
        by: Who made it; None: the command line.
        lifetime: After which it stops working; None: never.

    Returns:
        The stored token, and the key to send.
    """
    with transaction.atomic():
        token, key = AuthToken.objects.create(user=user, expiry=lifetime)
        record("token made", user, dataset=None, actor=by, token=token.token_key)
    return token, key


def revoke_token(*, token: AuthToken, by: User) -> None:
    """Make a token stop working at once."""
    with transaction.atomic():
        record(
            "token revoked", token.user, dataset=None, actor=by, token=token.token_key
        )
        token.delete()


def _keep_an_admin(dataset: Dataset, leaving: User) -> None:
    admins = Membership.objects.select_for_update().filter(
        dataset=dataset, role=Role.ADMIN
    )
    ids = {admin.user_id for admin in admins}
    if ids == {leaving.pk}:
        raise Refused(
            f"{leaving} is the only admin of {dataset}. Make another one first."
        )
