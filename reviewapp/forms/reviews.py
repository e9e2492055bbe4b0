"""What a reviewer sends: the queue gone through, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from django import forms

from reviewapp.actions import reviews as actions
from reviewapp.exceptions import Refused
from reviewapp.filters import FindingFilter
from reviewapp.models import Cause, Dataset, Finding, Label, Review, Verdict

if TYPE_CHECKING:
    from reviewapp.models import User
    from reviewapp.models.findings import FindingQuerySet

# A queue holds what waits, so the filters on review and presence say nothing here.
QUEUE_FIELDS = (
    "true_label",
    "predicted_label",
    "registered_model",
    "kind",
    "split",
    "cause",
    "p_true_below",
    "key",
)
MAX_NOTE = 2000  # characters


@dataclass(frozen=True, slots=True)
class Queue:
    """The findings of a data set that a reviewer goes through."""

    findings: FindingQuerySet
    fields: dict[str, str]  # the filter, as the form fields that name it
    title: str

    @property
    def query(self) -> str:
        """Return the query string that names this queue."""
        return urlencode(self.fields)

    def free_for(self, user: User) -> FindingQuerySet:
        """Return what this reviewer would be handed out."""
        return self.findings.waiting().not_held_by_others(user).not_skipped_by(user)


def read_queue(dataset: Dataset, data: Mapping[str, str]) -> Queue:
    """Return the queue that fields or a query string name; by default every error.

    Raises:
        Refused: A field names what the data set does not have.
    """
    fields = {name: data[name] for name in QUEUE_FIELDS if name in data}
    fields.setdefault("kind", Finding.Kind.MISCLASSIFIED.value)
    chosen = FindingFilter(
        fields, queryset=Finding.objects.for_dataset(dataset), dataset=dataset
    )
    if not chosen.is_valid():
        raise Refused(
            f"This queue is not possible: {_in_words(chosen.form)} Nothing was changed. "
            "Start from the review page."
        )
    return Queue(
        cast("FindingQuerySet", chosen.qs), fields, _title(chosen.form.cleaned_data)
    )


def _title(chosen: dict[str, Any]) -> str:
    kind = chosen["kind"]
    parts = [
        {"misclassified": "errors", "near_miss": "near misses"}.get(kind, "findings")
    ]
    true, predicted = chosen["true_label"], chosen["predicted_label"]
    if true or predicted:
        parts.insert(0, f"{true or 'any'} → {predicted or 'any'}")
    others = (
        chosen["registered_model"],
        chosen["split"],
        chosen["cause"] and Cause(chosen["cause"]).label,
        chosen["p_true_below"] is not None
        and f"p(true) below {chosen['p_true_below']}",
        chosen["key"] and f"file name with “{chosen['key']}”",
    )
    return ", ".join([*parts, *(str(other) for other in others if other)])


def _in_words(form: forms.Form) -> str:
    return " ".join(
        f"{form.fields[name].label or name}: {error}"
        if name in form.fields
        else str(error)
        for name, errors in form.errors.items()
        for error in errors
    )


class DecisionForm(forms.Form):
    """One verdict on the version of a finding that the reviewer saw."""

    version = forms.IntegerField(min_value=0)
    verdict = forms.ChoiceField(choices=Verdict, required=False)
    new_label = forms.ModelChoiceField(Label.objects.none(), required=False)
    # The buttons of the top five: verdict and label in one.
    relabel_to = forms.ModelChoiceField(Label.objects.none(), required=False)
    causes = forms.MultipleChoiceField(choices=Cause, required=False)
    note = forms.CharField(max_length=MAX_NOTE, required=False)

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("new_label", "relabel_to"):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)  # noqa: S101 - for mypy
            field.queryset = dataset.labels.current()

    def clean(self) -> dict[str, Any]:
        """Read a button of the top five as the verdict relabel."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("relabel_to"):
            cleaned["verdict"] = Verdict.RELABEL.value
            cleaned["new_label"] = cleaned["relabel_to"]
        elif cleaned.get("verdict") != Verdict.RELABEL:
            cleaned["new_label"] = None  # the menu always has a value
        if not self.errors and not cleaned["verdict"]:
            self.add_error("verdict", "Choose confirm, relabel or dismiss.")
        return cleaned

    def decide(self, *, finding: Finding, by: User) -> Review:
        """Record the verdict.

        Raises:
            Refused: The form is not complete, or the verdict contradicts itself.
            FindingChanged: The finding is another version now.
            FindingHeld: Another reviewer holds it.
        """
        if not self.is_valid():
            raise Refused(f"{_in_words(self)} Your verdict was not recorded.")
        values = self.cleaned_data
        return actions.decide(
            finding=finding,
            by=by,
            verdict=Verdict(values["verdict"]),
            version=values["version"],
            new_label=values["new_label"],
            causes=values["causes"],
            note=values["note"],
        )

    def kept(self) -> tuple[list[str], str]:
        """Return the causes and the note as sent, to show them again."""
        return list(self["causes"].value() or []), str(self["note"].value() or "")
