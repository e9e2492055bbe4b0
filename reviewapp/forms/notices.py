"""Webhooks, and what a person wants an e-mail of."""

from __future__ import annotations

from django import forms

from reviewapp.models import NoticeKind, User, Webhook


class WebhookForm(forms.Form):
    """Where to send what."""

    name = forms.CharField(
        label="Name",
        max_length=100,
        help_text="For the members of the data set: who or what is told.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    url = forms.CharField(
        label="Address",
        max_length=500,
        help_text="Begins with https://. Admins of the data set alone see it.",
        widget=forms.URLInput(attrs={"autocomplete": "off", "class": "mono"}),
    )
    events = forms.MultipleChoiceField(
        label="Told of",
        choices=NoticeKind.chosen(),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose one at least."},
    )


class ChangeWebhookForm(WebhookForm):
    """The same of one that is there, and whether it is on."""

    is_on = forms.BooleanField(label="Switched on", required=False)

    @classmethod
    def of(cls, webhook: Webhook) -> ChangeWebhookForm:
        """Return the form as the webhook is now."""
        return cls(initial={name: getattr(webhook, name) for name in cls.base_fields})


class MailsForm(forms.Form):
    """What a person wants an e-mail of; nothing chosen: no e-mails."""

    mails = forms.MultipleChoiceField(
        label="Send me an e-mail when",
        required=False,
        choices=[
            (NoticeKind.SCAN, "a scan has ended"),
            (NoticeKind.REGRESSION, "a fixed confusion is back"),
            (NoticeKind.GATE, "a model did not pass the gate"),
            (NoticeKind.TRAINING, "a training has ended"),
        ],
        widget=forms.CheckboxSelectMultiple,
    )

    @classmethod
    def of(cls, user: User) -> MailsForm:
        """Return the form as the person has chosen."""
        return cls(initial={"mails": user.mails})
