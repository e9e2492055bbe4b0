"""Who sees to a confusion, what they plan, and what would do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import transaction

from reviewapp.exceptions import NotAllowed, Refused
from reviewapp.models import Confusion
from reviewapp.models.events import record
from reviewapp.models.people import role_on

if TYPE_CHECKING:
    from reviewapp.models import User

MAX_TARGET = 2_147_483_647  # what the column holds


@dataclass(frozen=True, slots=True)
class LinePlan:
    """What people decided about one confusion.

    Attributes:
        owner: Who sees to it; None: nobody.
        plan: Of `Confusion.Plan`; "": none yet.
        target: Most errors in a scan that would do; None: none is set.
    """

    owner: User | None
    plan: str
    target: int | None

    @classmethod
    def of(cls, line: Confusion) -> LinePlan:
        """Return the plan as the line has it."""
        return cls(line.owner, line.plan, line.target)

    def as_event(self) -> dict[str, Any]:
        """Return it as an event keeps it."""
        return {
            "owner": self.owner.username if self.owner else None,
            "plan": self.plan,
            "target": self.target,
        }


def plan_line(*, line: Confusion, plan: LinePlan, by: User) -> Confusion:
    """Set owner, plan and target of a ledger line; setting them again changes nothing.

    A lead may set all; a reviewer may take a line that nobody has, and give it up again.

    Args:
        line: With its data set.
        plan: What it shall be.
        by: Who sets it.

    Raises:
        NotAllowed: The person's role is not enough.
        Refused: The owner is no member, there is no such plan, or the target cannot be.
    """
    if plan.plan not in ("", *Confusion.Plan.values):
        raise Refused(f"There is no plan {plan.plan!r}. Nothing was changed.")
    if plan.target is not None and not 0 <= plan.target <= MAX_TARGET:
        raise Refused(
            f"The target is from 0 to {MAX_TARGET:,} errors. Nothing was changed."
        )
    with transaction.atomic():
        lines = Confusion.objects.select_related("owner", "dataset")
        locked = lines.select_for_update(of=("self",)).get(pk=line.pk)
        was = LinePlan.of(locked)
        if plan == was:
            return locked
        _check_role(locked, was, plan, by)
        if (
            plan.owner not in (None, was.owner)
            and role_on(plan.owner, locked.dataset) is None
        ):
            raise Refused(
                f"{plan.owner} is no member of {locked.dataset}. Nothing was changed."
            )
        locked.owner, locked.plan, locked.target = plan.owner, plan.plan, plan.target
        locked.save(update_fields=["owner", "plan", "target", "updated_at"])
        record(
            "confusion planned",
            locked,
            dataset=locked.dataset,
            actor=by,
            was=was.as_event(),
            **plan.as_event(),
        )
    return locked


def change_plan(*, line: Confusion, by: User, **changes: Any) -> Confusion:
    """Set some of owner, plan and target, as `plan_line` does; the others stay.

    What another person sets at the same moment is not taken back.
    """
    with transaction.atomic():
        lines = Confusion.objects.select_related("owner", "dataset")
        locked = lines.select_for_update(of=("self",)).get(pk=line.pk)
        plan = replace(LinePlan.of(locked), **changes)
        return plan_line(line=locked, plan=plan, by=by)


def _check_role(line: Confusion, was: LinePlan, plan: LinePlan, by: User) -> None:
    """Let a reviewer take what nobody has or give up what is theirs, and nothing else."""
    role = role_on(by, line.dataset)
    is_own = {was.owner, plan.owner} == {None, by}
    is_alone = is_own and (was.plan, was.target) == (plan.plan, plan.target)
    if role is None or not (role.leads or is_alone):
        raise NotAllowed(
            f"Owner, plan and target are set by a lead of {line.dataset}. A reviewer can "
            "take a confusion that nobody has, and give it up again. Nothing was changed."
        )
