"""Owner, plan and target of a confusion."""

from __future__ import annotations

from typing import Any

from django import forms

from reviewapp.actions.plans import MAX_TARGET, LinePlan
from reviewapp.forms.choices import Menu
from reviewapp.models import Confusion, User


class PlanForm(forms.Form):
    """What a lead decides about one ledger line."""

    owner = forms.ModelChoiceField(
        label="Owner",
        queryset=User.objects.none(),
        required=False,
        empty_label="nobody",
    )
    plan = forms.ChoiceField(
        label="Plan",
        choices=[("", "none yet"), *Confusion.Plan.choices],
        required=False,
        widget=Menu,
    )
    target = forms.IntegerField(
        label="Target",
        min_value=0,
        max_value=MAX_TARGET,
        required=False,
        help_text="Most errors in one scan that would do. Above it, it is not fixed.",
    )

    def __init__(self, data: Any = None, *, line: Confusion) -> None:
        super().__init__(
            data,
            initial={
                "owner": line.owner_id,
                "plan": line.plan,
                "target": line.target,
            },
        )
        members = User.objects.filter(memberships__dataset=line.dataset_id)
        # An owner who has left stays until somebody takes over.
        owner = User.objects.filter(pk__in=[line.owner_id] if line.owner_id else [])
        choices = (members | owner).distinct()
        self.fields["owner"].queryset = choices.order_by("username")  # type: ignore[attr-defined]

    def line_plan(self) -> LinePlan:
        """Return a valid form's values as `plan_line` takes them."""
        values = self.cleaned_data
        return LinePlan(values["owner"], values["plan"], values["target"])
