"""Members and tokens."""

from __future__ import annotations

from datetime import timedelta

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import AuthenticationForm, UsernameField

from reviewapp.models import Role, User

MAX_USERNAME = 150  # characters, as the accounts' column


class SignInForm(AuthenticationForm):
    """A name and a password.

    Django's form leaves the length to the browser; axes then stores what was sent in
    a column of 255 characters. Fields with a maximum check it, and refuse NUL.
    """

    username = UsernameField(
        max_length=MAX_USERNAME, widget=forms.TextInput(attrs={"autofocus": True})
    )


class StaffSignInForm(SignInForm, AdminAuthenticationForm):
    """The same for the administration."""


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
