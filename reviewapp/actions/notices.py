"""Who is told of what: webhooks, people's e-mails, and what is put in the outbox.

A notice is written in the transaction of what it tells of. Who runs `due_deliveries`
afterwards sends it; a worker that dies in between loses nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from reviewapp.exceptions import Refused
from reviewapp.models import Delivery, Notice, NoticeKind, User, Webhook
from reviewapp.models.events import record
from reviewapp.posting import target_of

if TYPE_CHECKING:
    from reviewapp.models import Dataset

MAX_WEBHOOKS: Final = 20  # of one data set
KEPT: Final = timedelta(days=30)
NO_MAIL: Final = "django.core.mail.backends.dummy.EmailBackend"


def add_webhook(
    *, dataset: Dataset, name: str, url: str, events: Collection[str], by: User
) -> Webhook:
    """Add a webhook; show its `secret()` now, to its receiver's owner, and never again.

    Raises:
        Refused: The address is not allowed, the name is taken, or there are 20.
    """
    target_of(url)
    chosen = _in_order(events)
    if dataset.webhooks.count() >= MAX_WEBHOOKS:
        raise Refused(
            f"A data set has {MAX_WEBHOOKS} webhooks at most. Remove one first."
        )
    webhook = Webhook(
        dataset=dataset,
        name=name,
        url=url,
        events=chosen,
        salt=secrets.token_hex(16),
        created_by=by,
    )
    with _own_name(name), transaction.atomic():
        webhook.save()
        facts = {"events": chosen, "is_on": webhook.is_on}
        record("webhook added", webhook, dataset=dataset, actor=by, **facts)
    return webhook


def change_webhook(
    *,
    webhook: Webhook,
    name: str,
    url: str,
    events: Collection[str],
    is_on: bool,
    by: User,
) -> Webhook:
    """Change a webhook; its secret stays.

    One whose host is not allowed any more can be switched off.

    Raises:
        Refused: The address is not allowed, the name is taken, or the webhook was removed.
    """
    if is_on or url != webhook.url:
        target_of(url)
    # Without the address, which may hold a password: members read events.
    facts: dict[str, Any] = {"events": _in_order(events), "is_on": is_on}
    with _own_name(name), transaction.atomic():
        _set(webhook, name=name, url=url, **facts)
        record("webhook changed", webhook, dataset=webhook.dataset, actor=by, **facts)
    return webhook


def _in_order(events: Collection[str]) -> list[str]:
    """Return the chosen events in their usual order."""
    known = [value for value, _ in NoticeKind.chosen()]
    if not events or not set(events) <= set(known):
        raise Refused(f"Choose what it is told of: {', '.join(known)}.")
    return [kind for kind in known if kind in events]


@contextmanager
def _own_name(name: str) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Refused(
            f"There is a webhook {name!r} already. Choose another name."
        ) from error


def _set(webhook: Webhook, **values: Any) -> None:
    """Change these columns alone: another admin may be changing others."""
    if not Webhook.objects.filter(pk=webhook.pk).update(**values):
        raise Refused("The webhook was removed meanwhile. Nothing was changed.")
    for name, value in values.items():
        setattr(webhook, name, value)


def renew_secret(*, webhook: Webhook, by: User) -> Webhook:
    """Give a webhook another secret; the old one signs nothing from now on.

    Raises:
        Refused: The webhook was removed.
    """
    with transaction.atomic():
        _set(webhook, salt=secrets.token_hex(16))
        record("webhook secret renewed", webhook, dataset=webhook.dataset, actor=by)
    return webhook


def remove_webhook(*, webhook: Webhook, by: User) -> None:
    """Remove a webhook; what waits for it is not sent."""
    with transaction.atomic():
        record("webhook removed", webhook, dataset=webhook.dataset, actor=by)
        webhook.delete()


def try_webhook(*, webhook: Webhook, by: User) -> Delivery:
    """Put a test message for one webhook in the outbox; the caller enqueues it."""
    with transaction.atomic():
        notice = Notice.objects.create(
            dataset=webhook.dataset,
            kind=NoticeKind.TEST,
            title=f"A test of the webhook {webhook}, by {by}",
            path=reverse("webhook-list", args=[webhook.dataset.slug]),
            data={"webhook": webhook.name},
        )
        delivery = Delivery.objects.create(notice=notice, webhook=webhook)
        record("webhook tested", webhook, dataset=webhook.dataset, actor=by)
    return delivery


def choose_mails(*, user: User, kinds: Collection[str]) -> User:
    """Set what a person wants an e-mail of, on each data set that they are a member of.

    Raises:
        Refused: There is no such kind of notice.
    """
    known = [value for value, _ in NoticeKind.chosen()]
    if not set(kinds) <= set(known):
        raise Refused(f"Choose among {', '.join(known)}.")
    user.mails = [kind for kind in known if kind in kinds]
    user.save(update_fields=["mails"])
    return user


def mails_are_sent() -> bool:
    """Whether this server sends e-mail at all."""
    return bool(settings.EMAIL_BACKEND != NO_MAIL)


def readers_of(dataset: Dataset, kind: NoticeKind) -> QuerySet[User]:
    """Return the members who want an e-mail of this and can be sent one."""
    members = User.objects.filter(memberships__dataset=dataset, is_active=True)
    return members.filter(mails__contains=[kind]).exclude(email="")


def is_wanted(dataset: Dataset, kind: NoticeKind) -> bool:
    """Whether anybody is to be told; spares putting together what nobody reads."""
    return bool(_webhooks(dataset, kind).exists() or _readers(dataset, kind))


def tell(
    *,
    dataset: Dataset,
    kind: NoticeKind,
    title: str,
    lines: Sequence[str],
    path: str,
    data: dict[str, Any],
) -> Notice | None:
    """Put a notice in the outbox, for everybody who wants it.

    Call it in the transaction of what it tells of.

    Args:
        dataset: To which it happened.
        kind: What happened.
        title: In one line.
        lines: What more there is to say to people.
        path: Of the page that says more, from the first slash on.
        data: The same for programs.

    Returns:
        The notice; None when nobody wants it.
    """
    webhooks, readers = list(_webhooks(dataset, kind)), _readers(dataset, kind)
    if not (webhooks or readers):
        return None
    notice = Notice.objects.create(
        dataset=dataset,
        kind=kind,
        title=" ".join(title.split()),
        text="\n".join(lines),
        path=path,
        data=data,
    )
    Delivery.objects.bulk_create(
        [Delivery(notice=notice, webhook=webhook) for webhook in webhooks]
        + [Delivery(notice=notice, user=user) for user in readers]
    )
    return notice


def _webhooks(dataset: Dataset, kind: NoticeKind) -> QuerySet[Webhook]:
    return Webhook.objects.for_dataset(dataset).wanting(kind).order_by("pk")


def _readers(dataset: Dataset, kind: NoticeKind) -> list[User]:
    if not mails_are_sent():
        return []
    return list(readers_of(dataset, kind).order_by("pk"))


def forget_old_notices() -> None:
    """Delete what was told a month ago, with its deliveries."""
    Notice.objects.filter(created_at__lt=timezone.now() - KEPT).delete()
