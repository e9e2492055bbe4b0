"""Sending what lies in the outbox: signed POSTs to webhooks, e-mails to people."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from smtplib import SMTPException, SMTPRecipientsRefused
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.serializers.json import DjangoJSONEncoder
from django.urls import reverse

from reviewapp.actions.deliveries import (
    claim_delivery,
    drop_delivery,
    note_failure,
    note_sent,
)
from reviewapp.actions.notices import readers_of
from reviewapp.models import Delivery, Notice, NoticeKind, User, Webhook
from reviewapp.posting import NotSent, post

if TYPE_CHECKING:
    from uuid import UUID


def send_delivery(*, delivery_id: int) -> None:
    """Make one attempt at a delivery and record what became of it.

    Does nothing when it was sent meanwhile or another worker is at it.
    """
    delivery = claim_delivery(delivery_id=delivery_id)
    if delivery is None:
        return
    try:
        status = None
        if delivery.webhook:
            status = _post(delivery, delivery.webhook)
        elif delivery.user and not _mail(delivery, delivery.user):
            drop_delivery(delivery=delivery)
            return
    except NotSent as error:
        note_failure(delivery=delivery, error=error)
    else:
        note_sent(delivery=delivery, status=status)


def body_of(notice: Notice) -> bytes:
    """Return a notice as JSON, the same in every attempt."""
    content: dict[str, Any] = {
        "type": notice.kind,
        "timestamp": notice.created_at,
        "data": {
            "title": notice.title,
            "url": settings.PUBLIC_URL + notice.path,
            "dataset": {"slug": notice.dataset.slug, "name": notice.dataset.name},
            **notice.data,
        },
    }
    return json.dumps(content, cls=DjangoJSONEncoder, ensure_ascii=False).encode()


def signature_of(secret: str, uid: UUID, moment: int, body: bytes) -> str:
    """Return the signature of a message, as Standard Webhooks has it.

    Args:
        secret: "whsec_" and the key in base64.
        uid: Of the delivery.
        moment: When it is sent, in seconds since 1970.
        body: As it is sent.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{uid}.{moment}.".encode() + body
    mac = hmac.new(key, signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def _post(delivery: Delivery, webhook: Webhook) -> int:
    if not webhook.is_on:
        raise NotSent("The webhook is switched off.", final=True)
    body, moment = body_of(delivery.notice), int(time.time())
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Hardmine",
        "webhook-id": str(delivery.uid),
        "webhook-timestamp": str(moment),
        "webhook-signature": signature_of(webhook.secret(), delivery.uid, moment, body),
    }
    return post(webhook.url, body=body, headers=headers)


def _mail(delivery: Delivery, user: User) -> bool:
    """Send an e-mail; False: the reader has left or does not want it any more."""
    notice = delivery.notice
    wanting = readers_of(notice.dataset, NoticeKind(notice.kind))
    if not wanting.filter(pk=user.pk).exists():
        return False
    account = settings.PUBLIC_URL + reverse("account")
    link, foot = settings.PUBLIC_URL + notice.path, _FOOT.format(account)
    parts = (notice.title, notice.text, link, foot)
    host = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("<> ") or "localhost"
    subject = f"[Hardmine] {notice.dataset}: {notice.title}"
    message = EmailMessage(
        subject=" ".join(subject.split()),
        body="\n\n".join(part for part in parts if part),
        to=[user.email],
        headers={
            "Message-ID": f"<{delivery.uid}@{host}>",
            "Auto-Submitted": "auto-generated",
            "List-Unsubscribe": f"<{account}>",
        },
    )
    try:
        message.send()
    except SMTPRecipientsRefused as error:
        code = next(iter(error.recipients.values()))[0]
        # From 500 on for good; 450 and the like: a mailbox that is busy.
        raise NotSent(
            f"The mail server refuses the address ({code}).", final=code >= 500
        ) from error
    except (SMTPException, OSError, ValueError) as error:
        raise NotSent(f"The mail server did not take it: {error}") from error
    return True


_FOOT = "You get this since you chose so on your account page, {}"
