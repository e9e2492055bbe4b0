"""What a reviewer sends: a verdict."""

from __future__ import annotations

from typing import Any

from django import forms

from reviewapp.access import id_from
from reviewapp.actions.reviews import Decision
from reviewapp.exceptions import Refused
from reviewapp.models import Cause, Dataset, DismissReason, Label, Verdict
from reviewapp.queues import in_words

MAX_NOTE = 2000  # characters


class DecisionForm(forms.Form):
    """One verdict on the version of a finding that the reviewer saw."""

    version = forms.IntegerField(min_value=0)
    verdict = forms.ChoiceField(choices=Verdict, required=False)
    # Label ids, looked up for a relabel alone: the menu of classes always has one.
    new_label = forms.CharField(required=False)
    # The buttons of the top five: verdict and label in one.
    relabel_to = forms.CharField(required=False)
    reason = forms.ChoiceField(
        choices=[("", "no reason"), *DismissReason.choices], required=False
    )
    causes = forms.MultipleChoiceField(choices=Cause, required=False)
    note = forms.CharField(max_length=MAX_NOTE, required=False)
    key = forms.UUIDField(required=False)

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._dataset = dataset

    def clean(self) -> dict[str, Any]:
        """Read a button of the top five as the verdict relabel."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("relabel_to"):
            cleaned["verdict"] = Verdict.RELABEL.value
        chosen = cleaned.get("relabel_to") or cleaned.get("new_label")
        is_relabel = cleaned.get("verdict") == Verdict.RELABEL
        cleaned["new_label"] = self._label(chosen) if chosen and is_relabel else None
        # The menu of reasons always has a value.
        if cleaned.get("verdict") != Verdict.DISMISS:
            cleaned["reason"] = ""
        if not self.errors and not cleaned["verdict"]:
            self.add_error("verdict", "Choose confirm, relabel, dismiss or flag.")
        return cleaned

    def _label(self, chosen: str) -> Label | None:
        pk = id_from(chosen)
        label = self._dataset.labels.current().filter(pk=pk).first() if pk else None
        if label is None:
            self.add_error(
                "new_label", "Select a valid choice: there is no such class."
            )
        return label

    def decision(self) -> Decision:
        """Return what was sent.

        Raises:
            Refused: The form is not complete.
        """
        if not self.is_valid():
            raise Refused(f"{in_words(self)} Your verdict was not recorded.")
        values = self.cleaned_data
        return Decision(
            verdict=Verdict(values["verdict"]),
            version=values["version"],
            new_label=values["new_label"],
            reason=values["reason"],
            causes=values["causes"],
            note=values["note"],
            key=values["key"],
        )

    def kept(self) -> tuple[list[str], str]:
        """Return the causes and the note as sent, to show them again."""
        return list(self["causes"].value() or []), str(self["note"].value() or "")
