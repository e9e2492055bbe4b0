"""What the desk shows of one finding, read from the database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from reviewapp.access import id_from
from reviewapp.actions.given import count_given
from reviewapp.actions.known import as_new, is_blind
from reviewapp.desk_reasons import (
    comeback_of,
    lane_of,
    place_of,
    standing_of,
    why_here,
)
from reviewapp.forms.reviews import DecisionForm
from reviewapp.keys import keys_for
from reviewapp.models import (
    Cause,
    Claim,
    DismissReason,
    Finding,
    Review,
    Standing,
    User,
)
from reviewapp.pasts import LastSeen, last_seen, past_of, top_of
from reviewapp.queues import Lane, Queue
from reviewapp.rows import exemplars_for
from reviewapp.suggestions import causes_often_here
from reviewapp.worth import Worth, worth_of

COUNTED = 10_000  # a longer queue is shown as "over 10,000"
# There each is looked up with its confusion: 10,000 take half a second of a million.
COUNTED_IN_LANE = 1_000
TOP = 5
SIGHTINGS = 5
DRAWN = 1024  # parts of desks that are kept as drawn
CAUSES = [(cause.value, cause.label, cause.fix, f"cause_{cause}") for cause in Cause]
KNOWN = frozenset(Cause.values)


@dataclass(frozen=True, slots=True)
class Guess:
    """One class of the model's top five."""

    label_id: int
    name: str
    probability: float  # 0-1
    is_true: bool
    is_choice: bool  # a relabel to it is possible
    action: str
    key: str


@dataclass(frozen=True, slots=True)
class Tag:
    """One cause as a checkbox with its key."""

    value: str
    label: str
    fix: str
    action: str
    key: str
    is_on: bool
    is_often: bool  # given often in this confusion


@dataclass(frozen=True, slots=True)
class Surest:
    """An exemplar, as the desk shows it."""

    label_id: int
    pk: int
    digest: str
    confidence: float  # 0-1


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a reviewer is."""

    done: int  # verdicts of today, whatever they were recorded as
    left: int  # free in this queue, up to `counted` + 1
    counted: int
    worth: Worth  # whether the rest is worth it

    @property
    def total(self) -> int:
        """Return what the bar stands for."""
        return self.done + self.left


def desk_context(
    *,
    user: User,
    finding: Finding,
    queue: Queue,
    form: DecisionForm | None = None,
    refusal: str = "",
    is_ours: bool = False,
) -> dict[str, object]:
    """Return the context of `review/desk.html`.

    Args:
        user: The reviewer.
        finding: With its names loaded.
        queue: Where the next finding comes from.
        form: A verdict that was refused, to keep what was typed.
        refusal: Why the verdict was refused.
        is_ours: Whether it was handed out to this reviewer just now.
    """
    blind = is_blind(finding=finding, by=user)
    if blind:
        finding = as_new(finding)
    keys = keys_for(user)
    sightings = last_seen(finding, SIGHTINGS)
    guesses = _guesses(finding, sightings, keys)
    causes, note = form.kept() if form else ([], "")
    past = past_of(finding)
    standing = standing_of(finding)
    lane = queue.lane or lane_of(finding, standing)
    return {
        "dataset": queue.dataset,
        "finding": finding,
        "queue": queue,
        "keys": keys,
        "why": _why(finding, standing, user, lane),
        "lane": Lane(lane),
        "guesses": guesses,
        "sightings": sightings,
        "past": past,
        "exemplars": _exemplars(finding, queue.dataset.slug),
        "reviews": [] if blind or not past.is_reviewed else _earlier_reviews(finding),
        "attributes": sorted(finding.sample.attributes.items()),
        "proposed": _proposed(finding, guesses, form),
        "reasons": DismissReason.choices,
        "causes": _causes(finding, keys, causes),
        "note": note,
        "refusal": refusal,
        "holder": None if is_ours else _holder(finding, user),
        "is_out_of_date": finding.sample.label_id != finding.true_label_id,
    }


def counted_in(queue: Queue) -> int:
    """Return up to which number the findings of a queue are counted."""
    is_split = queue.lane in (Lane.LABEL, Lane.MODEL)
    return COUNTED_IN_LANE if is_split else COUNTED


def progress_of(user: User, queue: Queue) -> Progress:
    """Return how far this reviewer is, and whether what is left is worth it."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    counted = counted_in(queue)
    return Progress(
        done=count_given(by=user, since=midnight),
        left=queue.left_for(user, counted + 1),
        counted=counted,
        worth=worth_of(queue.dataset, user, queue),
    )


def _why(finding: Finding, standing: Standing | None, user: User, lane: str) -> str:
    place = place_of(finding, user)
    return why_here(finding, standing, place, lane, comeback_of(finding))


# A confusion's findings follow each other: of both parts most desks have the same.
def _exemplars(finding: Finding, slug: str) -> SafeString:
    """Draw what the true and the predicted class usually look like, surest first."""
    labels = dict.fromkeys([finding.true_label, finding.predicted_label])
    found = [
        Surest(one.label_id, one.pk, one.digest, one.confidence)
        for one in exemplars_for(finding)
    ]
    if not found:
        return SafeString("")
    return _draw_exemplars(
        slug, tuple((one.pk, one.name) for one in labels), tuple(found)
    )


@lru_cache(maxsize=DRAWN)
def _draw_exemplars(
    slug: str, labels: tuple[tuple[int, str], ...], found: tuple[Surest, ...]
) -> SafeString:
    exemplars = [
        (name, [one for one in found if one.label_id == pk]) for pk, name in labels
    ]
    context = {"slug": slug, "exemplars": exemplars}
    return render_to_string("review/exemplars.html", context)


def _earlier_reviews(finding: Finding) -> list[Review]:
    reviews = Review.objects.of_sample(finding.sample).with_names()
    return list(reviews.newest_first())


def _guesses(
    finding: Finding, sightings: list[LastSeen], keys: dict[str, str]
) -> list[Guess]:
    if not sightings:
        return []
    return [
        Guess(
            label_id=one.label_id,
            name=one.name,
            probability=one.probability,
            is_true=one.label_id == finding.true_label_id,
            is_choice=one.is_current and one.label_id != finding.true_label_id,
            action=f"guess_{place}",
            key=keys[f"guess_{place}"],
        )
        for place, one in enumerate(top_of(sightings[0], TOP), 1)
    ]


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


def _causes(finding: Finding, keys: dict[str, str], on: list[str]) -> SafeString:
    """Draw the causes as checkboxes with their keys."""
    often = causes_often_here(finding)
    shown = tuple(keys[action] for *_, action in CAUSES)
    # Of what was sent only causes: anything else would be kept as long as the process.
    return _draw_causes(shown, frozenset(often), KNOWN.intersection(on))


@lru_cache(maxsize=DRAWN)
def _draw_causes(
    keys: tuple[str, ...], often: frozenset[str], on: frozenset[str]
) -> SafeString:
    tags = [
        Tag(
            value=value,
            label=label,
            fix=fix,
            action=action,
            key=key,
            is_on=value in on,
            is_often=value in often,
        )
        for (value, label, fix, action), key in zip(CAUSES, keys, strict=True)
    ]
    return render_to_string("review/causes.html", {"tags": tags})


def _holder(finding: Finding, user: User) -> Claim | None:
    """Return the claim of another reviewer that has not expired."""
    claim: Claim | None = getattr(finding, "claim", None)
    if claim is None or claim.reviewer_id == user.pk:
        return None
    return claim if claim.expires_at > timezone.now() else None
