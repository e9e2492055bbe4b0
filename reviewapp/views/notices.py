"""Who is told of what: a data set's webhooks, a person's e-mails."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from reviewapp.access import access_dataset, access_one, id_from
from reviewapp.actions.deliveries import send_again
from reviewapp.actions.notices import (
    add_webhook,
    change_webhook,
    choose_mails,
    mails_are_sent,
    remove_webhook,
    renew_secret,
    try_webhook,
)
from reviewapp.exceptions import HardmineError
from reviewapp.forms.notices import ChangeWebhookForm, MailsForm, WebhookForm
from reviewapp.models import Delivery, Role, User, Webhook
from reviewapp.models.people import role_on
from reviewapp.tasks import enqueue_delivery
from reviewapp.views.requests import UserRequest

SHOWN = 50  # deliveries


@never_cache
@sensitive_post_parameters("url")
@require_http_methods(["GET", "POST"])
def index(request: UserRequest, slug: str) -> HttpResponse:
    """Show the webhooks of a data set; an admin adds one."""
    writing = request.method == "POST"
    role = Role.ADMIN if writing else Role.REVIEWER
    dataset = access_dataset(request.user, slug, role=role)
    form = WebhookForm(request.POST or None)
    if form.is_valid():
        try:
            webhook = add_webhook(dataset=dataset, **form.cleaned_data, by=request.user)
        except HardmineError as error:
            form.add_error(None, str(error))
        else:
            # Its secret is shown in this answer and stored nowhere.
            return _detail(request, webhook, fresh_secret=webhook.secret())
    context = {
        "dataset": dataset,
        "role": role_on(request.user, dataset),
        "webhooks": Webhook.objects.for_dataset(dataset).order_by("name"),
        "form": form,
        "hosts": settings.WEBHOOK_HOSTS,
    }
    return render(request, "notices/index.html", context)


@never_cache
@sensitive_post_parameters("url")
@require_http_methods(["GET", "POST"])
def detail(request: UserRequest, slug: str, webhook_id: int) -> HttpResponse:
    """Show a webhook and its deliveries; change, try or remove it (admin)."""
    dataset = access_dataset(request.user, slug, role=Role.ADMIN)
    webhooks = Webhook.objects.for_dataset(dataset).select_related("dataset")
    webhook = access_one(webhooks, pk=webhook_id)
    act = request.POST.get("act", "")
    if act == "secret":
        renew_secret(webhook=webhook, by=request.user)
        return _detail(request, webhook, fresh_secret=webhook.secret())
    if act == "remove":
        remove_webhook(webhook=webhook, by=request.user)
        messages.success(request, "The webhook is removed. It is told nothing more.")
        return redirect("webhook-list", slug)
    if act == "test":
        enqueue_delivery(try_webhook(webhook=webhook, by=request.user))
        messages.success(request, "A test is on its way. Load the page again to see.")
        return redirect("webhook-detail", slug, webhook_id)
    if "again" in request.POST:
        return _send_again(request, webhook)
    if act == "change":
        return _change(request, webhook)
    return _detail(request, webhook)


def _change(request: UserRequest, webhook: Webhook) -> HttpResponse:
    form = ChangeWebhookForm(request.POST)
    if form.is_valid():
        try:
            change_webhook(webhook=webhook, **form.cleaned_data, by=request.user)
        except HardmineError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "The webhook is changed.")
            return redirect("webhook-detail", webhook.dataset.slug, webhook.pk)
    return _detail(request, webhook, form=form)


def _send_again(request: UserRequest, webhook: Webhook) -> HttpResponse:
    delivery = access_one(
        webhook.deliveries.with_names(), pk=id_from(request.POST["again"])
    )
    enqueue_delivery(send_again(delivery=delivery, by=request.user))
    messages.success(request, "It is on its way again, with the same id.")
    return redirect("webhook-detail", webhook.dataset.slug, webhook.pk)


def _detail(
    request: UserRequest,
    webhook: Webhook,
    *,
    form: ChangeWebhookForm | None = None,
    fresh_secret: str = "",
) -> HttpResponse:
    context = {
        "dataset": webhook.dataset,
        "webhook": webhook,
        "form": form or ChangeWebhookForm.of(webhook),
        "fresh_secret": fresh_secret,
        "deliveries": webhook.deliveries.with_names().newest_first()[:SHOWN],
    }
    return render(request, "notices/webhook.html", context)


@require_POST
def mails(request: UserRequest) -> HttpResponse:
    """Set what one wants an e-mail of."""
    form = MailsForm(request.POST)
    if form.is_valid():
        choose_mails(user=request.user, kinds=form.cleaned_data["mails"])
        messages.success(request, "Your e-mails are chosen.")
    else:
        messages.error(request, "There is no such choice. Nothing was changed.")
    return redirect("account")


def mails_of(user: User) -> dict[str, Any]:
    """Return what the account page shows of a person's e-mails."""
    return {
        "form": MailsForm.of(user),
        "are_sent": mails_are_sent(),
        "last": Delivery.objects.filter(user=user).newest_first().first(),
    }
