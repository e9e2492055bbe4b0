"""A reviewer at the API: knows the true labels, and makes mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from django.test import Client

if TYPE_CHECKING:
    from reviewapp.models import Dataset, User

MISTAKES = 0.05
AT_ONCE = 50


class Reviewer:
    """Takes findings from a queue and decides them over HTTP.

    Attributes:
        seen: Keys that were decided, in order.
    """

    def __init__(
        self, dataset: Dataset, by: User, true: dict[str, str], *, seed: int
    ) -> None:
        self._url = f"/api/datasets/{dataset.slug}/"
        self._client = Client(SERVER_NAME="localhost")
        self._client.force_login(by)
        self._labels = {label.name: label.pk for label in dataset.labels.all()}
        self._true = true
        self._rng = np.random.default_rng(9000 + seed)
        self.seen: list[str] = []

    def review(self, queue: dict[str, Any], *, limit: int = 100_000) -> int:
        """Decide what a queue hands out, up to `limit`, and return how many."""
        done = 0
        while done < limit:
            asked = {**queue, "limit": min(AT_ONCE, limit - done)}
            findings = self.post("queue/next/", asked, 200)
            if not findings:
                break
            for finding in findings:
                self._decide(finding)
                self.seen.append(finding["key"])
            done += len(findings)
        return done

    def _decide(self, finding: dict[str, Any]) -> None:
        """Give the right verdict, or with a chance of 5 % the opposite one."""
        right = self._true[finding["key"]]
        label, predicted = finding["true_label"]["name"], finding["predicted_label"]
        is_wrong = right != label
        if self._rng.random() < MISTAKES:
            is_wrong, right = not is_wrong, predicted["name"]
        body: dict[str, Any] = {"version": finding["version"], "verdict": "confirm"}
        if is_wrong and right != label:
            body |= {"verdict": "relabel", "new_label": self._labels[right]}
        self.post(f"findings/{finding['id']}/decide/", body, 201)

    def post(self, path: str, body: dict[str, Any], status: int) -> Any:
        """Send a request under the data set's address and return its JSON."""
        answer = self._client.post(
            self._url + path, body, content_type="application/json"
        )
        assert answer.status_code == status, answer.content.decode()
        return answer.json()
