"""Members and tokens."""

from __future__ import annotations

from datetime import timedelta

from django import forms

from reviewapp.models import Role, User


class MemberForm(forms.Form):
    """A person and their role on a data set."""

    user = forms.ModelChoiceField(
        label="User name",
        queryset=User.objects.filter(is_active=True),
        to_field_name="username",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        error_messages={
            "invalid_choice": "There is no active account with this user name. Staff "
            "can make one on the administration pages."
        },
    )
    role = forms.ChoiceField(label="Role", choices=Role.choices)

    def clean_role(self) -> Role:
        """Return the role itself, not its text."""
        return Role(self.cleaned_data["role"])


class TokenForm(forms.Form):
    """How long a new token works."""

    days = forms.TypedChoiceField(
        label="Works for",
        coerce=int,
        empty_value=None,
        required=False,
        choices=[
            ("7", "7 days"),
            ("30", "30 days"),
            ("90", "90 days"),
            ("365", "a year"),
            ("", "as long as it is not revoked"),
        ],
        initial="90",
    )

    def expiry(self) -> timedelta | None:
        """Return the time until a valid form's token ends; None: never."""
        days = self.cleaned_data["days"]
        return None if days is None else timedelta(days=days)
