"""What the desk and the queue show, read from the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from django.utils import timezone

from reviewapp.access import id_from
from reviewapp.forms.reviews import DecisionForm, Queue
from reviewapp.models import (
    Cause,
    Claim,
    Dataset,
    Finding,
    Label,
    Review,
    Sighting,
    User,
)

if TYPE_CHECKING:
    from reviewapp.models.findings import FindingQuerySet

COUNTED = 10_000  # a longer queue is shown as "over 10,000"
TOP = 5
SIGHTINGS = 10
# Verdicts have c, r, d, s, u and n; these are left for the causes.
CAUSE_KEYS = {
    Cause.SIMILAR_APPEARANCE: "a",
    Cause.POSE: "p",
    Cause.OCCLUSION: "o",
    Cause.BACKGROUND: "b",
    Cause.BLUR: "f",
    Cause.SMALL_OBJECT: "m",
    Cause.LIGHTING: "l",
    Cause.LABEL_WRONG: "w",
    Cause.AMBIGUOUS: "q",
    Cause.OUT_OF_SCOPE: "x",
}


@dataclass(frozen=True, slots=True)
class PairCount:
    """How many findings of one confusion, or of one class's near misses, wait."""

    true_id: int
    predicted_id: int
    true: str
    predicted: str
    n: int
    share: float  # of the largest of its kind, 0-1

    @property
    def is_near_miss(self) -> bool:
        """Whether the prediction is right."""
        return self.true_id == self.predicted_id


@dataclass(frozen=True, slots=True)
class Guess:
    """One class of the model's top five."""

    label_id: int
    name: str
    probability: float  # 0-1
    is_true: bool
    is_choice: bool  # a relabel to it is possible


@dataclass(frozen=True, slots=True)
class Tag:
    """One cause as a checkbox with its key."""

    value: str
    label: str
    fix: str
    key: str
    is_on: bool


def pair_counts(dataset: Dataset, waiting: FindingQuerySet) -> list[PairCount]:
    """Return the waiting findings by confusion, most frequent first."""
    names = dict(dataset.labels.values_list("id", "name"))
    rows = [
        (
            cast(int, row["true_label"]),
            cast(int, row["predicted_label"]),
            cast(int, row["n"]),
        )
        for row in waiting.counts_by_confusion()
    ]
    largest = {
        near: max((n for true, other, n in rows if (true == other) is near), default=1)
        for near in (True, False)
    }
    return [
        PairCount(
            true_id=true,
            predicted_id=predicted,
            true=names[true],
            predicted=names[predicted],
            n=n,
            share=n / largest[true == predicted],
        )
        for true, predicted, n in rows
    ]


def desk_context(
    *,
    user: User,
    finding: Finding,
    queue: Queue,
    form: DecisionForm | None = None,
    said: str = "",
    refusal: str = "",
) -> dict[str, object]:
    """Return the context of `review/finding.html`.

    Args:
        user: The reviewer.
        finding: With its names loaded.
        queue: Where the next finding comes from.
        form: A verdict that was refused, to keep what was typed.
        said: What just happened.
        refusal: Why the verdict was refused.
    """
    labels = list(finding.dataset.labels.order_by("index", "name"))
    sightings = list(
        finding.sightings.select_related(
            "scan__model_version__registered_model"
        ).order_by("-scan_id")[:SIGHTINGS]
    )
    guesses = _guesses(finding, sightings, {label.pk: label for label in labels})
    causes, note = form.kept() if form else ([], "")
    return {
        "dataset": finding.dataset,
        "finding": finding,
        "queue": queue,
        "guesses": guesses,
        "sightings": sightings,
        "reviews": list(
            Review.objects.of_sample(finding.sample).with_names().newest_first()
        ),
        "attributes": sorted(finding.sample.attributes.items()),
        "choices": [label for label in labels if _is_choice(label, finding)],
        "proposed": _proposed(finding, guesses, form),
        "tags": [
            Tag(cause.value, cause.label, cause.fix, key, cause.value in causes)
            for cause, key in CAUSE_KEYS.items()
        ],
        "note": note,
        "said": said,
        "refusal": refusal,
        "holder": _holder(finding, user),
        "is_out_of_date": finding.sample.label_id != finding.true_label_id,
        **_progress(user, finding, queue),
    }


def _guesses(
    finding: Finding, sightings: list[Sighting], labels: dict[int, Label]
) -> list[Guess]:
    if not sightings:
        return []
    last = sightings[0]
    return [
        Guess(
            label_id=label_id,
            name=labels[label_id].name,
            probability=probability,
            is_true=label_id == finding.true_label_id,
            is_choice=_is_choice(labels[label_id], finding),
        )
        for label_id, probability in list(
            zip(last.top_labels, last.top_probs, strict=True)
        )[:TOP]
    ]


def _is_choice(label: Label, finding: Finding) -> bool:
    """Whether a relabel to this class is possible."""
    return label.index is not None and label.pk != finding.true_label_id


def _proposed(
    finding: Finding, guesses: list[Guess], form: DecisionForm | None
) -> int | None:
    """Return the label chosen beforehand: the surest one that is not the label now."""
    sent = id_from(form["new_label"].value() or "") if form else None
    if sent is not None and sent != finding.true_label_id:
        return sent
    if finding.predicted_label_id != finding.true_label_id:
        return finding.predicted_label_id
    return next((guess.label_id for guess in guesses if guess.is_choice), None)


def _holder(finding: Finding, user: User) -> Claim | None:
    """Return the claim of another reviewer that has not expired."""
    claim: Claim | None = getattr(finding, "claim", None)
    if claim is None or claim.reviewer_id == user.pk:
        return None
    return claim if claim.expires_at > timezone.now() else None


def _progress(user: User, finding: Finding, queue: Queue) -> dict[str, object]:
    """Return how far this reviewer is today, what is left, and what comes next."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    done = Review.objects.by(user).standing().of(queue.findings).since(midnight).count()
    left = queue.free_for(user).count_up_to(COUNTED + 1)
    held = queue.findings.waiting().held_by(user).hardest_first()
    return {
        "done": done,
        "left": left,
        "counted": COUNTED,
        "total": done + left,
        "upcoming": [other for other in held if other.pk != finding.pk],
    }
