"""How a team works on a data set: rules for its reviews, and what its people hold."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from django.db import transaction

from reviewapp.exceptions import Refused
from reviewapp.models import Claim, Dataset, Role
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import User

MAX_OVERLAP = 5
MAX_KNOWN_RATE = 0.5


def set_team_rules(
    *, dataset: Dataset, overlap: int, overlap_share: float, known_rate: float, by: User
) -> Dataset:
    """Set how many people judge a finding and how many known answers are mixed in.

    Opinions given so far stay: with a lower `overlap` the next one may settle a finding.

    Args:
        dataset: Whose findings.
        overlap: Reviewers who judge one finding, blind; 1: no overlap.
        overlap_share: Share of the findings that get it, 0-1.
        known_rate: Share of what is handed out whose answer is known, 0-0.5.
        by: Who sets it.

    Raises:
        Refused: A number is out of its range.
    """
    if not (
        1 <= overlap <= MAX_OVERLAP
        and 0 <= overlap_share <= 1
        and 0 <= known_rate <= MAX_KNOWN_RATE
    ):
        raise Refused(
            f"The overlap is from 1 to {MAX_OVERLAP} people, its share from 0 to 100 %, "
            f"known answers from 0 to {MAX_KNOWN_RATE:.0%}. Nothing was changed."
        )
    rules = {
        "overlap": overlap,
        "overlap_share": overlap_share,
        "known_rate": known_rate,
    }
    with transaction.atomic():
        locked = Dataset.objects.select_for_update().get(pk=dataset.pk)
        was = {name: getattr(locked, name) for name in rules}
        if rules != was:
            Dataset.objects.filter(pk=dataset.pk).update(**rules)
            record(
                "team rules set", dataset, dataset=dataset, actor=by, was=was, **rules
            )
    dataset.refresh_from_db(fields=list(rules))
    return dataset


def free_claims(*, dataset: Dataset, by: User, holder: User | None = None) -> int:
    """Take back what one person, or everybody, holds on a data set; return how many.

    Who still looks at such a finding may decide it until somebody else holds it.
    """
    claims = Claim.objects.filter(finding__dataset=dataset)
    if holder is not None:
        claims = claims.filter(reviewer=holder)
    with transaction.atomic():
        # What its holder decides, or asks for again, at this moment is left to them:
        # waiting for it could end in a deadlock.
        free = claims.select_for_update(of=("self",), skip_locked=True)
        freed, _ = Claim.objects.filter(
            pk__in=list(free.values_list("pk", flat=True))
        ).delete()
        if freed:
            record(
                "holds freed",
                dataset,
                dataset=dataset,
                actor=by,
                holder=holder.username if holder else "everybody",
                findings=freed,
            )
    return freed


def leads_of(dataset: Dataset) -> set[int]:
    """Return the ids of the people who may decide the disputes of a data set."""
    roles = [role.value for role in Role if role.leads]
    members = dataset.memberships.filter(role__in=roles, user__is_active=True)
    return set(members.values_list("user", flat=True))


def may_settle(person: int, voices: Set[int], leads: Set[int]) -> bool:
    """Whether a lead may decide a dispute, by ids of people.

    Who gave one of its opinions may not, unless every lead gave one.

    >>> may_settle(1, voices={1, 2}, leads={1, 3})
    False
    >>> may_settle(1, voices={1, 2}, leads={1})
    True
    """
    return person not in voices or leads <= voices
