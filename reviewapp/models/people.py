"""People: accounts, and who may do what on which data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models

if TYPE_CHECKING:
    from reviewapp.models.datasets import Dataset


class NoticeKind(models.TextChoices):
    """What people and other programs are told of."""

    SCAN = "scan.finished", "scan finished"
    REGRESSION = "regression", "regression"
    GATE = "gate.failed", "gate failed"
    TRAINING = "training.finished", "training finished"
    REPORT = "report.finished", "report finished"
    TEST = "test", "test"

    @staticmethod
    def chosen() -> list[tuple[str, str]]:
        """Return those that one can ask for, with their names."""
        return NoticeKind.choices[:-1]


class User(AbstractUser):
    """An account. What it may see comes from its memberships."""

    keys: models.JSONField[dict[str, str], dict[str, str]] = models.JSONField(
        default=dict, blank=True, help_text="Action -> key, where not the usual one"
    )
    mails = ArrayField(
        models.CharField(max_length=20, choices=NoticeKind.chosen()),
        default=list,
        blank=True,
        help_text="What they want an e-mail of, on each of their data sets",
    )

    @property
    def may_register_datasets(self) -> bool:
        """Whether this person may bring in a new data set."""
        return self.is_active and (self.is_staff or self.is_superuser)


class Role(models.TextChoices):
    """What a member may do; each role includes the ones before it."""

    REVIEWER = "reviewer", "Reviewer"
    LEAD = "lead", "Lead"
    ADMIN = "admin", "Admin"

    @property
    def level(self) -> int:
        """Return 0 for a reviewer, 1 for a lead, 2 for an admin."""
        return list(Role).index(self)

    def includes(self, other: Role) -> bool:
        """Whether this role may do what `other` may."""
        return self.level >= other.level

    @property
    def leads(self) -> bool:
        """Whether this role may start scans and register model versions."""
        return self.includes(Role.LEAD)

    @property
    def administers(self) -> bool:
        """Whether this role may change members, sources and fix sets."""
        return self.includes(Role.ADMIN)


class Membership(models.Model):
    """One person's role on one data set."""

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    dataset = models.ForeignKey(
        "reviewapp.Dataset", models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role, default=Role.REVIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "dataset"], name="membership_one_per_user_dataset"
            ),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.dataset}"


def role_on(user: User, dataset: Dataset) -> Role | None:
    """Return the person's role on the data set; a superuser is admin everywhere."""
    if user.is_superuser:
        return Role.ADMIN
    membership = Membership.objects.filter(user=user, dataset=dataset).first()
    return Role(membership.role) if membership else None
