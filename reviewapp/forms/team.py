"""How a team reviews a data set."""

from __future__ import annotations

from typing import Any

from django import forms

from reviewapp.actions.teams import MAX_KNOWN_RATE, MAX_OVERLAP
from reviewapp.models import Dataset


class TeamRulesForm(forms.Form):
    """Blind overlap and known answers, in percent as people say it."""

    overlap = forms.TypedChoiceField(
        label="People per finding",
        coerce=int,
        choices=[(1, "1, no overlap")]
        + [(n, f"{n}, blind to each other") for n in range(2, MAX_OVERLAP + 1)],
        help_text="All agree: the finding is decided. They do not: a lead decides.",
    )
    share = forms.FloatField(
        label="Share of the findings, %",
        min_value=0,
        max_value=100,
        help_text="The others get one verdict. Which ones is drawn once and stays.",
    )
    known = forms.FloatField(
        label="Known answers, %",
        min_value=0,
        max_value=100 * MAX_KNOWN_RATE,
        help_text="Of what is handed out; 0: none. Mark them on the findings' pages.",
    )

    @classmethod
    def of(cls, dataset: Dataset, data: Any = None) -> TeamRulesForm:
        """Return the form as the data set is now."""
        return cls(
            data,
            initial={
                "overlap": dataset.overlap,
                "share": round(100 * dataset.overlap_share, 4),
                "known": round(100 * dataset.known_rate, 4),
            },
        )

    def rules(self) -> dict[str, Any]:
        """Return a valid form's values as `set_team_rules` takes them."""
        values = self.cleaned_data
        return {
            "overlap": values["overlap"],
            "overlap_share": values["share"] / 100,
            "known_rate": values["known"] / 100,
        }
