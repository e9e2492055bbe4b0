"""Opinions: what several reviewers say of one finding, without seeing each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Count, Max, OuterRef, Q, Subquery

from reviewapp.models.datasets import Dataset, Label
from reviewapp.models.findings import Finding
from reviewapp.models.reviews import Cause, DismissReason, Review, Verdict

if TYPE_CHECKING:
    from reviewapp.models.people import User


class OpinionQuerySet(models.QuerySet["Opinion"]):
    """Vocabulary for opinions."""

    def for_dataset(self, dataset: Dataset) -> OpinionQuerySet:
        """Keep the opinions on one data set.

        Each one's finding is looked up by itself: of a join the planner may make a hash
        of all findings, however few opinions there are.
        """
        of = Finding.objects.filter(pk=OuterRef("finding")).values("dataset")
        return self.alias(dataset=Subquery(of)).filter(dataset=dataset.pk)

    def by(self, user: User) -> OpinionQuerySet:
        """Keep one person's opinions."""
        return self.filter(reviewer=user)

    def of_row(self, user: User) -> OpinionQuerySet:
        """Keep one person's opinion on the finding of the outer query, as it is now."""
        return self.filter(
            finding=OuterRef("pk"), finding_version=OuterRef("version"), reviewer=user
        )

    def valid_for(self, finding: Finding) -> OpinionQuerySet:
        """Keep the opinions on a finding as it is now, the first one first."""
        return self.filter(finding=finding, finding_version=finding.version).order_by(
            "id"
        )

    def seconding_row(self) -> OpinionQuerySet:
        """Keep what others said just as the review of the outer query."""
        same = Q(new_label=OuterRef("new_label")) | Q(new_label__isnull=True)
        return self.filter(
            same, review=OuterRef("pk"), verdict=OuterRef("verdict")
        ).exclude(reviewer=OuterRef("reviewer"))

    def last_round(self) -> OpinionQuerySet:
        """Keep the opinions on the last version that got any, of each finding."""
        last = (
            Opinion.objects.filter(finding=OuterRef("finding"))
            .order_by()
            .values("finding")
            .annotate(last=Max("finding_version"))
        )
        return self.filter(finding_version=Subquery(last.values("last")))

    def with_names(self) -> OpinionQuerySet:
        """Load what a list shows in the same query."""
        return self.select_related(
            "finding__true_label",
            "finding__predicted_label",
            "finding__sample",
            "new_label",
            "reviewer",
            "review__reviewer",
        )

    def newest_first(self) -> OpinionQuerySet:
        """Order by time, the latest first."""
        return self.order_by("-created_at")

    def reopen(self, *, review: Review, version: int) -> None:
        """Keep the opinions that an undone verdict settled, without the undoer's own.

        They count again for the finding as it is now. What settled a dispute was the
        lead's own verdict: then all of them stay.

        Args:
            review: The undone verdict.
            version: The finding's version after the undo.
        """
        settled = self.filter(review=review)
        if review.state_before != Finding.ReviewState.DISPUTED:
            settled.filter(reviewer=review.reviewer_id).delete()
        settled.update(review=None, finding_version=version)


class Opinion(models.Model):
    """A verdict given blind; the finding moves when enough of them agree."""

    finding = models.ForeignKey(
        Finding, models.CASCADE, db_index=False, related_name="opinions"
    )
    finding_version = models.PositiveIntegerField(help_text="What the reviewer saw")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        db_index=False,
        related_name="opinions",
    )
    verdict = models.CharField(max_length=7, choices=Verdict)
    new_label = models.ForeignKey(Label, models.PROTECT, null=True, related_name="+")
    reason = models.CharField(max_length=12, choices=DismissReason, blank=True)
    causes = ArrayField(models.CharField(max_length=20, choices=Cause), default=list)
    note = models.TextField(blank=True)
    key = models.UUIDField(null=True, help_text="The client's; a retry repeats it")
    review = models.ForeignKey(
        Review,
        models.SET_NULL,
        null=True,
        related_name="opinions",
        help_text="The verdict that settled it",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = OpinionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["finding", "finding_version", "reviewer"], name="opinion_once"
            ),
            models.UniqueConstraint(
                fields=["reviewer", "key"],
                name="opinion_once_per_key",
                condition=Q(key__isnull=False),
            ),
        ]
        indexes = [
            # Each reviewer's last ones: their own list, and the team's agreement. By
            # time: in the order of ids the primary key would be read for a reviewer
            # who has given none.
            models.Index(
                fields=["reviewer", "-created_at"], name="opinion_reviewer_newest"
            ),
            # The team's pace, as for reviews.
            BrinIndex(fields=["created_at"], name="opinion_created"),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} of {self.finding}, blind"

    @property
    def said(self) -> tuple[str, int | None]:
        """Return the verdict and the new label's id: what must agree."""
        return self.verdict, self.new_label_id

    @property
    def cause_labels(self) -> list[str]:
        """Return the causes in words."""
        return [Cause(cause).label for cause in self.causes]


class KnownAnswerQuerySet(models.QuerySet["KnownAnswer"]):
    """Vocabulary for known answers."""

    def for_dataset(self, dataset: Dataset) -> KnownAnswerQuerySet:
        """Keep the known answers of one data set."""
        return self.filter(dataset=dataset)

    def newest_first(self) -> KnownAnswerQuerySet:
        """Order by time, the latest first."""
        return self.order_by("-id")

    def with_score(self) -> KnownAnswerQuerySet:
        """Load names, and annotate `tried` and `right`: how many reviewers were."""
        return self.select_related(
            "finding__true_label",
            "finding__predicted_label",
            "finding__sample",
            "new_label",
            "added_by",
        ).annotate(
            tried=Count("attempts"),
            right=Count("attempts", filter=Q(attempts__is_right=True)),
        )


class KnownAnswer(models.Model):
    """A finding whose right verdict is known, mixed in to see how reviewers do."""

    dataset = models.ForeignKey(Dataset, models.CASCADE, related_name="known_answers")
    finding = models.OneToOneField(Finding, models.CASCADE, related_name="known_answer")
    verdict = models.CharField(max_length=7, choices=Verdict)
    new_label = models.ForeignKey(Label, models.PROTECT, null=True, related_name="+")
    added_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = KnownAnswerQuerySet.as_manager()

    def __str__(self) -> str:
        return f"known answer of {self.finding}: {self.verdict}"

    def is_right(self, verdict: str, new_label: Label | None) -> bool:
        """Whether a verdict is the known one; a relabel also by its label."""
        label_id = new_label.pk if new_label else None
        return (verdict, label_id) == (self.verdict, self.new_label_id)


class KnownAttemptQuerySet(models.QuerySet["KnownAttempt"]):
    """Vocabulary for attempts at known answers."""

    def for_dataset(self, dataset: Dataset) -> KnownAttemptQuerySet:
        """Keep the attempts on one data set."""
        return self.filter(known__dataset=dataset)

    def by(self, user: User) -> KnownAttemptQuerySet:
        """Keep one person's attempts."""
        return self.filter(reviewer=user)

    def with_names(self) -> KnownAttemptQuerySet:
        """Load what a list shows in the same query."""
        return self.select_related(
            "known__finding__true_label",
            "known__finding__predicted_label",
            "known__finding__sample",
            "new_label",
        )

    def newest_first(self) -> KnownAttemptQuerySet:
        """Order by time, the latest first."""
        return self.order_by("-id")

    def scores(self) -> dict[int, tuple[int, int]]:
        """Return reviewer id -> (right, tried)."""
        rows = (
            self.order_by()
            .values_list("reviewer")
            .annotate(right=Count("id", filter=Q(is_right=True)), tried=Count("id"))
        )
        return {reviewer: (right, tried) for reviewer, right, tried in rows}


class KnownAttempt(models.Model):
    """What a reviewer said where the answer was known; it changes nothing else."""

    known = models.ForeignKey(KnownAnswer, models.CASCADE, related_name="attempts")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="known_attempts"
    )
    verdict = models.CharField(max_length=7, choices=Verdict)
    new_label = models.ForeignKey(Label, models.PROTECT, null=True, related_name="+")
    is_right = models.BooleanField()
    reason = models.CharField(max_length=12, choices=DismissReason, blank=True)
    causes = ArrayField(models.CharField(max_length=20, choices=Cause), default=list)
    note = models.TextField(blank=True)
    key = models.UUIDField(null=True, help_text="The client's; a retry repeats it")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = KnownAttemptQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["known", "reviewer"], name="known_attempt_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} of {self.known}"

    @property
    def cause_labels(self) -> list[str]:
        """Return the causes in words."""
        return [Cause(cause).label for cause in self.causes]
