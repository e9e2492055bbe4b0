"""The only way from client input to an object.

What does not exist and what is not yours give the same 404. A member without the
needed role gets `NotAllowed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.db.models import Model, QuerySet
from django.http import Http404

from reviewapp.exceptions import NotAllowed
from reviewapp.models import Dataset, Finding, Role
from reviewapp.models.people import role_on
from reviewapp.rows import FINDING, Columns, fetch, split

if TYPE_CHECKING:
    from reviewapp.models import User

ModelT = TypeVar("ModelT", bound=Model)


def access_dataset(user: User, slug: str, *, role: Role = Role.REVIEWER) -> Dataset:
    """Return the data set if the person is a member of it.

    Raises:
        Http404: There is none, or it is not theirs.
        NotAllowed: Their role is below `role`.
    """
    return _checked(user, access_one(Dataset.objects.visible_to(user), slug=slug), role)


def access_finding(user: User, slug: str, finding_id: int) -> Finding:
    """Return the finding, with its data set, if the person is a member of that.

    Raises:
        Http404: There is none, or it is not theirs.
    """
    values: dict[str, Any] = {"id": finding_id, "user": user.pk}
    values["all"] = user.is_superuser
    # Addresses can carry NUL; PostgreSQL takes it for an error, not a text.
    values["slug"] = slug.replace("\0", " ")
    rows = fetch(ACCESS, values)
    if not rows:
        raise Http404
    finding, finding.dataset = split(rows[0], (FINDING, DATASET))
    return cast(Finding, finding)


# As text: before every verdict.
DATASET = Columns(Dataset, "d")
ACCESS = f"""
SELECT {FINDING.sql}, {DATASET.sql}
  FROM reviewapp_dataset d JOIN reviewapp_finding f ON f.dataset_id = d.id
 WHERE d.slug = %(slug)s AND f.id = %(id)s
   AND (%(all)s OR EXISTS (SELECT FROM reviewapp_membership m
                            WHERE m.dataset_id = d.id AND m.user_id = %(user)s))
"""  # noqa: S608 - columns of models


def access_one(scoped: QuerySet[ModelT], **lookup: object) -> ModelT:
    """Return the one object of an already scoped queryset, or raise Http404."""
    # Addresses and forms can carry NUL; PostgreSQL takes it for an error, not a text.
    if any(isinstance(value, str) and "\0" in value for value in lookup.values()):
        raise Http404
    found = scoped.filter(**lookup).first()
    if found is None:
        raise Http404
    return found


def id_from(text: str) -> int | None:
    """Return the id that a form or a query string names; None: it names none.

    Not every digit is one that `int` reads ("²"), it reads 4,300 of them at most, and
    a column holds 18 for certain.

    >>> id_from("17")
    17
    """
    is_id = text.isascii() and text.isdecimal() and len(text) < 19
    return int(text) if is_id else None


def require_role(user: User, dataset: Dataset, role: Role) -> None:
    """Raise `NotAllowed` unless the person has at least `role` on the data set."""
    held = role_on(user, dataset)
    if held is None:
        raise Http404
    if not held.includes(role):
        raise NotAllowed(
            f"This needs the role {role.label.lower()} on {dataset}; you are "
            f"{held.label.lower()}. Ask an admin of the data set."
        )


def _checked(user: User, dataset: Dataset, role: Role) -> Dataset:
    if role is not Role.REVIEWER:
        require_role(user, dataset, role)
    return dataset
