"""Reviews: append-only verdicts, and their undoing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import Exists, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import JSONObject

from reviewapp.models.datasets import Dataset, Label, Sample
from reviewapp.models.findings import Finding

if TYPE_CHECKING:
    from reviewapp.models.people import User


class Cause(models.TextChoices):
    """Why the model failed."""

    SIMILAR_APPEARANCE = "similar_appearance", "similar appearance"
    POSE = "pose", "pose"
    OCCLUSION = "occlusion", "occlusion"
    BACKGROUND = "background", "background"
    BLUR = "blur", "blur"
    SMALL_OBJECT = "small_object", "small object"
    LIGHTING = "lighting", "lighting"
    LABEL_WRONG = "label_wrong", "label wrong"
    AMBIGUOUS = "ambiguous", "ambiguous"
    OUT_OF_SCOPE = "out_of_scope", "out of scope"

    @property
    def fix(self) -> str:
        """Return the fix that this cause suggests."""
        return _FIXES[self]


_FIXES = {
    Cause.SIMILAR_APPEARANCE: "collect more of both classes; weigh this pair higher",
    Cause.POSE: "collect other viewpoints; rotate and shear in training",
    Cause.OCCLUSION: "collect occluded examples; erase random patches in training",
    Cause.BACKGROUND: "vary the background; crop or mix images in training",
    Cause.BLUR: "blur images in training; improve the capture",
    Cause.SMALL_OBJECT: "crop closer or raise the input size",
    Cause.LIGHTING: "vary brightness and contrast in training",
    Cause.LABEL_WRONG: "correct the label; check others by the same annotator",
    Cause.AMBIGUOUS: "sharpen the labelling guide; leave it out of training",
    Cause.OUT_OF_SCOPE: "remove it from the data set or add a class",
}


class Verdict(models.TextChoices):
    """What a reviewer says of a finding."""

    CONFIRM = "confirm", "confirm"  # the label is right, the model is wrong
    RELABEL = "relabel", "relabel"  # the label is wrong
    DISMISS = "dismiss", "dismiss"  # neither is worth fixing
    FLAG = "flag", "flag"  # somebody else should look

    @property
    def review_state(self) -> Finding.ReviewState:
        """Return the state in which this verdict leaves the finding."""
        return {
            Verdict.CONFIRM: Finding.ReviewState.CONFIRMED,
            Verdict.RELABEL: Finding.ReviewState.RELABELLED,
            Verdict.DISMISS: Finding.ReviewState.DISMISSED,
            Verdict.FLAG: Finding.ReviewState.FLAGGED,
        }[self]


class DismissReason(models.TextChoices):
    """Why a finding is not worth fixing."""

    AMBIGUOUS = "ambiguous", "ambiguous"
    OUT_OF_SCOPE = "out_of_scope", "out of scope"
    DUPLICATE = "duplicate", "duplicate"
    UNREADABLE = "unreadable", "unreadable"


class ReviewQuerySet(models.QuerySet["Review"]):
    """Vocabulary for reviews."""

    def for_dataset(self, dataset: Dataset) -> ReviewQuerySet:
        """Keep the reviews of one data set."""
        return self.filter(dataset=dataset)

    def standing(self) -> ReviewQuerySet:
        """Leave out what was undone."""
        # Not `undo__isnull`: of the join the planner expects one row to be left.
        return self.exclude(Exists(Undo.objects.filter(review=OuterRef("pk"))))

    def fixing(self) -> ReviewQuerySet:
        """Keep the verdicts that put a finding into a fix set."""
        return self.filter(verdict__in=(Verdict.CONFIRM, Verdict.RELABEL))

    def by(self, user: User) -> ReviewQuerySet:
        """Keep one person's reviews."""
        return self.filter(reviewer=user)

    def of(self, findings: QuerySet[Finding]) -> ReviewQuerySet:
        """Keep the reviews of these findings."""
        return self.filter(finding__in=findings)

    def of_sample(self, sample: Sample) -> ReviewQuerySet:
        """Keep the reviews of one image, whatever it was mistaken for."""
        return self.filter(finding__sample=sample)

    def since(self, moment: datetime) -> ReviewQuerySet:
        """Keep what was given at this moment or later."""
        return self.filter(created_at__gte=moment)

    def with_names(self) -> ReviewQuerySet:
        """Load what a list shows in the same query."""
        return self.select_related(
            "finding__true_label",
            "finding__predicted_label",
            "finding__sample__label",
            "label_before",
            "new_label",
            "reviewer",
            "undo__by",
        )

    def with_names_apart(self) -> ReviewQuerySet:
        """Load what a list shows by ids: few rows, however many findings there are.

        With joins the planner may take hashing all findings for as cheap.
        """
        findings = Finding.objects.select_related("true_label", "predicted_label")
        return self.select_related(
            "label_before", "new_label", "reviewer"
        ).prefetch_related(
            Prefetch("finding", findings),
            Prefetch("finding__sample", Sample.objects.select_related("label")),
            Prefetch("undo", Undo.objects.select_related("by")),
        )

    def newest_first(self) -> ReviewQuerySet:
        """Order by time, the latest first."""
        return self.order_by("-id")

    def last_of(self, findings: Collection[int]) -> dict[int, LastReview]:
        """Return finding id -> the last of these reviews of it, for some hundred.

        Each finding's are looked up by themselves: joined with so many, all reviews
        might be read.
        """
        said = JSONObject(pk="pk", verdict="verdict", reviewer="reviewer__username")
        last = self.filter(finding=OuterRef("pk")).order_by("-id").values(said=said)
        rows = Finding.objects.filter(pk__in=findings).order_by()
        found = rows.values_list("pk", Subquery(last[:1]))
        return {pk: LastReview(**one) for pk, one in found if one}


@dataclass(frozen=True, slots=True)
class LastReview:
    """What was said of a finding last."""

    pk: int
    verdict: str
    reviewer: str  # name


class Review(models.Model):
    """One verdict by one reviewer on one version of a finding; never edited."""

    # The finding's: a reviewer's own list would else look up every finding they judged.
    # Without a constraint: the finding's holds the review already.
    dataset = models.ForeignKey(
        Dataset,
        models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="reviews",
    )
    finding = models.ForeignKey(Finding, models.CASCADE, related_name="reviews")
    finding_version = models.PositiveIntegerField(help_text="What the reviewer saw")
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        db_index=False,
        related_name="reviews",
    )
    verdict = models.CharField(max_length=7, choices=Verdict)
    label_before = models.ForeignKey(Label, models.PROTECT, related_name="+")
    new_label = models.ForeignKey(Label, models.PROTECT, null=True, related_name="+")
    state_before = models.CharField(max_length=10, choices=Finding.ReviewState)
    causes = ArrayField(models.CharField(max_length=20, choices=Cause), default=list)
    superseded: models.JSONField[list[list[Any]], list[list[Any]]] = models.JSONField(
        default=list,
        help_text="[finding id, presence before] of what a relabel put aside",
    )
    reason = models.CharField(
        max_length=12, choices=DismissReason, blank=True, help_text="Of a dismissal"
    )
    note = models.TextField(blank=True)
    key = models.UUIDField(
        null=True,
        help_text="The client's; a retry repeats it and is not a second verdict",
    )
    batch = models.UUIDField(
        null=True,
        help_text="Shared by verdicts that were given, and are undone, as one",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = ReviewQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(verdict__in=Verdict.values), name="review_verdict_known"
            ),
            models.CheckConstraint(
                condition=Q(verdict="relabel", new_label__isnull=False)
                | (~Q(verdict="relabel") & Q(new_label__isnull=True)),
                name="review_relabel_has_label",
            ),
            models.CheckConstraint(
                condition=Q(causes__contained_by=Cause.values),
                name="review_causes_known",
            ),
            models.CheckConstraint(
                condition=Q(reason="")
                | Q(verdict="dismiss", reason__in=DismissReason.values),
                name="review_reason_of_dismissal",
            ),
            models.UniqueConstraint(
                fields=["finding", "finding_version"], name="review_once_per_version"
            ),
            models.UniqueConstraint(
                fields=["reviewer", "key", "finding"],
                name="review_once_per_key",
                condition=Q(key__isnull=False),
            ),
        ]
        indexes = [
            # "Undo my last verdict", and each reviewer's own list.
            models.Index(fields=["reviewer", "dataset", "-id"], name="review_own_list"),
            # How many verdicts each reviewer gave today.
            models.Index(fields=["reviewer", "created_at"], name="review_reviewer_day"),
            # The findings list by cause.
            GinIndex(
                fields=["causes"],
                name="review_causes",
                condition=~Q(causes=[]),
            ),
            models.Index(
                fields=["batch"],
                name="review_batch",
                condition=Q(batch__isnull=False),
            ),
            # The team's pace: what the last days brought, whoever gave it. Rows come in
            # the order of time, so this costs a verdict next to nothing.
            BrinIndex(fields=["created_at"], name="review_created"),
            # The disputes that were settled last.
            models.Index(
                fields=["-id"],
                name="review_of_dispute",
                condition=Q(state_before="disputed"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} of {self.finding}"

    @property
    def undone(self) -> Undo | None:
        """Return the undo of this verdict, None while it stands."""
        return getattr(self, "undo", None)

    @property
    def cause_labels(self) -> list[str]:
        """Return the causes in words."""
        return [Cause(cause).label for cause in self.causes]


class Undo(models.Model):
    """The taking back of one review."""

    review = models.OneToOneField(Review, models.CASCADE, related_name="undo")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"undo of {self.review}"
