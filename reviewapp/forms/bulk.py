"""What a reviewer sends of many findings at once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django import forms

from reviewapp.access import id_from
from reviewapp.actions.reviews import Decision
from reviewapp.exceptions import Refused
from reviewapp.forms.reviews import MAX_NOTE
from reviewapp.models import Cause, Dataset, DismissReason, Label, Verdict

MAX_AT_ONCE = 500  # findings
SKIP = "skip"


class FindingsField(forms.MultipleChoiceField):
    """Findings as "id:version", the version being the one that was seen."""

    def valid_value(self, value: str) -> bool:
        """Whether it has the form of an id and a version."""
        finding_id, _, version = value.partition(":")
        # A column of versions holds nine digits for certain.
        return None not in (id_from(finding_id), id_from(version)) and len(version) < 10

    def clean(self, value: Any) -> list[tuple[int, int]]:
        """Return (finding id, version) of each."""
        pairs = [text.partition(":") for text in super().clean(value)]
        return [(int(finding_id), int(version)) for finding_id, _, version in pairs]


class BulkForm(forms.Form):
    """One verdict on many findings, or their putting off."""

    finding = FindingsField(
        error_messages={
            "required": "Nothing is selected: choose findings first.",
            "invalid_choice": "%(value)s names no finding.",
        }
    )
    verdict = forms.ChoiceField(choices=[*Verdict.choices, (SKIP, "skip")])
    new_label = forms.ModelChoiceField(
        Label.objects.none(),
        required=False,
        error_messages={"invalid_choice": "There is no such class."},
    )
    reason = forms.ChoiceField(choices=DismissReason, required=False)
    causes = forms.MultipleChoiceField(choices=Cause, required=False)
    note = forms.CharField(max_length=MAX_NOTE, required=False)
    key = forms.UUIDField(required=False)

    def __init__(self, *args: Any, dataset: Dataset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["new_label"]
        assert isinstance(field, forms.ModelChoiceField)  # noqa: S101 - for mypy
        field.queryset = dataset.labels.current()

    def read(self) -> None:
        """Check what was sent.

        Raises:
            Refused: It is not complete, or too much at once.
        """
        if not self.is_valid():
            texts = [str(error) for errors in self.errors.values() for error in errors]
            raise Refused(f"{' '.join(texts)} Nothing was recorded.")
        if len(self.findings) > MAX_AT_ONCE:
            raise Refused(
                f"{len(self.findings)} findings are too many at once, {MAX_AT_ONCE} are "
                "possible. Nothing was recorded."
            )

    @property
    def findings(self) -> list[tuple[int, int]]:
        """Return (finding id, version) of what was selected."""
        found: list[tuple[int, int]] = self.cleaned_data["finding"]
        return found

    @property
    def is_skip(self) -> bool:
        """Whether they are to be put off."""
        return bool(self.cleaned_data["verdict"] == SKIP)

    @property
    def decision(self) -> Decision:
        """Return the verdict; what belongs to other verdicts is left out."""
        values = self.cleaned_data
        verdict = Verdict(values["verdict"])
        return Decision(
            verdict=verdict,
            version=0,  # each finding has its own
            new_label=values["new_label"] if verdict is Verdict.RELABEL else None,
            reason=values["reason"] if verdict is Verdict.DISMISS else "",
            causes=values["causes"],
            note=values["note"],
            key=values["key"] or uuid4(),
        )
