"""A reviewer who knows the true labels, at the product's own queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reviewapp.actions.opinions import give_verdict
from reviewapp.actions.reviews import Decision, claim
from reviewapp.models import Dataset, Finding, User, Verdict
from reviewapp.queues import read_queue

AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class KnowingReviewer:
    """Confirms the labels that are right and mends the others.

    Attributes:
        dataset: Whose findings.
        by: Who decides.
        true: Key -> true label.
    """

    dataset: Dataset
    by: User
    true: Mapping[str, str]

    def review(self, fields: Mapping[str, str], *, limit: int = 100_000) -> int:
        """Decide what the queue that fields name hands out; return how many."""
        queue = read_queue(self.dataset, fields)
        labels = {label.name: label for label in self.dataset.labels.all()}
        done = 0
        while done < limit:
            held = claim(queue=queue, by=self.by, limit=min(AT_ONCE, limit - done))
            if not held:
                break
            for finding in Finding.objects.with_names().filter(
                pk__in=[one.pk for one in held]
            ):
                right = labels[self.true[finding.sample.key]]
                is_right = right.pk == finding.true_label_id
                verdict = Verdict.CONFIRM if is_right else Verdict.RELABEL
                decision = Decision(
                    verdict=verdict,
                    new_label=None if is_right else right,
                    version=finding.version,
                )
                give_verdict(finding=finding, by=self.by, decision=decision)
            done += len(held)
        return done
