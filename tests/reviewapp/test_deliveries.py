"""The outbox: signed POSTs and e-mails to real receivers on loopback, retries, doubles."""

from __future__ import annotations

from datetime import timedelta
from email import message_from_bytes, policy

import pytest
import time_machine
from django.conf import settings as conf
from django.utils import timezone

from reviewapp import tasks
from reviewapp.actions import deliveries as outbox
from reviewapp.actions.notices import (
    add_webhook,
    choose_mails,
    forget_old_notices,
    renew_secret,
    try_webhook,
)
from reviewapp.actions.people import remove_member
from reviewapp.actions.telling import tell_of_scan
from reviewapp.exceptions import AlreadyRunning
from reviewapp.models import Delivery, Notice, Webhook
from reviewapp.notifying import send_delivery, signature_of
from tests.notices import ALL, later, send_all, wanting


def text_of(mail):
    return message_from_bytes(mail.content, policy=policy.default)


# --- signatures -----------------------------------------------------------------------


def test_the_documented_lines_tell_what_was_sent_from_what_was_made_up(
    world, webhook, receiver
) -> None:
    page = (conf.BASE_DIR / "docs/notifications.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) < 15
    told: dict = {}
    exec(code, told)
    tell_of_scan(scan=world.scan)
    send_all()
    [got] = receiver.requests
    secret = webhook.secret()
    assert told["is_genuine"](secret, got.headers, got.body)
    assert not told["is_genuine"](secret, got.headers, got.body + b" ")
    assert not told["is_genuine"](
        renew_secret(webhook=webhook, by=None).secret(), got.headers, got.body
    )
    other = got.headers | {"webhook-id": "another"}
    assert not told["is_genuine"](secret, other, got.body)
    old = str(int(got.headers["webhook-timestamp"]) - 600)
    replayed = got.headers | {"webhook-timestamp": old}
    replayed["webhook-signature"] = signature_of(
        secret, got.headers["webhook-id"], int(old), got.body
    )
    assert not told["is_genuine"](secret, replayed, got.body)


def test_the_signature_is_the_one_of_standard_webhooks() -> None:
    """The example of the specification's reference libraries."""
    made = signature_of(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_the_webhooks_own_and_not_in_the_database(
    webhook, receiver, dataset, alice, settings
) -> None:
    other = add_webhook(
        dataset=dataset, name="b", url=receiver.url(), events=ALL, by=alice
    )
    assert webhook.secret() != other.secret()
    assert webhook.secret() == Webhook.objects.get(pk=webhook.pk).secret()
    stored = str(Webhook.objects.filter(pk=webhook.pk).values().get())
    assert webhook.secret().removeprefix("whsec_") not in stored
    was = webhook.secret()
    settings.SECRET_KEY = "another"
    assert webhook.secret() != was


# --- the way out ----------------------------------------------------------------------


def test_a_failing_receiver_is_tried_eight_times_later_and_later(
    world, webhook, receiver
) -> None:
    receiver.status = 503
    delivery = try_webhook(webhook=webhook, by=None)
    waits = []
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for _ in range(8):
            send_all()
            delivery.refresh_from_db()
            if delivery.state == "waiting":
                waits.append((delivery.due_at - timezone.now()).seconds // 60)
                clock.shift((delivery.due_at - timezone.now()) / 2)
                assert outbox.due_deliveries() == []
            clock.move_to(delivery.due_at)
        assert waits == [1, 3, 9, 27, 81, 243, 729]
        assert (delivery.state, delivery.attempts, delivery.status) == (
            "failed",
            8,
            503,
        )
        assert delivery.error == "127.0.0.1 answers 503."
        clock.shift(timedelta(days=2))
        assert outbox.due_deliveries() == []
    assert len(receiver.requests) == 8
    assert len({r.headers["webhook-id"] for r in receiver.requests}) == 1
    assert len({r.body for r in receiver.requests}) == 1


def test_a_receiver_that_recovers_gets_it(world, webhook, receiver) -> None:
    receiver.status = 500
    try_webhook(webhook=webhook, by=None)
    send_all()
    receiver.status = 200
    with later(minutes=2):
        send_all()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.error) == ("sent", 2, "")
    assert delivery.sent_at


def test_a_host_that_is_not_allowed_any_more_is_given_up_at_once(
    world, webhook, receiver, settings
) -> None:
    try_webhook(webhook=webhook, by=None)
    settings.WEBHOOK_HOSTS = []
    send_all()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts) == ("failed", 1)
    assert "HARDMINE_WEBHOOK_HOSTS" in delivery.error
    assert receiver.requests == []


def test_a_webhook_that_was_switched_off_gets_nothing(world, webhook, receiver) -> None:
    tell_of_scan(scan=world.scan)
    Webhook.objects.update(is_on=False)
    send_all()
    assert Delivery.objects.get().error == "The webhook is switched off."
    assert receiver.requests == []


def test_two_messages_of_one_delivery_send_it_once(world, webhook, receiver) -> None:
    delivery = try_webhook(webhook=webhook, by=None)
    send_delivery(delivery_id=delivery.pk)
    send_delivery(delivery_id=delivery.pk)
    assert len(receiver.requests) == 1


def test_a_delivery_that_another_worker_sends_is_left_to_it(world, webhook) -> None:
    delivery = try_webhook(webhook=webhook, by=None)
    assert outbox.claim_delivery(delivery_id=delivery.pk)
    assert outbox.claim_delivery(delivery_id=delivery.pk) is None
    with pytest.raises(AlreadyRunning):
        outbox.send_again(delivery=delivery, by=None)


def test_what_a_killed_worker_held_is_sent_by_the_sweep(
    world, webhook, receiver, monkeypatch
) -> None:
    delivery = try_webhook(webhook=webhook, by=None)
    held = outbox.claim_delivery(delivery_id=delivery.pk)
    sent = []
    monkeypatch.setattr(
        tasks,
        "_send",
        lambda task, pks, **_: sent.extend((task.name, pk) for pk in pks),
    )
    monkeypatch.setattr(tasks, "_messages", lambda queue: 0)
    tasks.recover_lost_work()
    assert sent == []
    with later(minutes=6):
        tasks.recover_lost_work()
        tasks.recover_lost_work()
        assert sent == [("reviewapp.tasks.send_delivery", delivery.pk)]
        tasks.send_delivery(delivery.pk)
    # The first one was only asleep: it changes nothing any more.
    outbox.note_sent(delivery=held, status=201)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.status, delivery.attempts) == ("sent", 204, 2)


def test_one_that_kills_every_worker_is_given_up(world, webhook) -> None:
    delivery = try_webhook(webhook=webhook, by=None)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for _ in range(8):
            assert outbox.due_deliveries() == [delivery.pk]
            assert outbox.claim_delivery(delivery_id=delivery.pk)
            clock.shift(timedelta(minutes=6))
        assert outbox.due_deliveries() == []
    delivery.refresh_from_db()
    assert delivery.state == "failed"
    assert delivery.error == "No worker lived to the end of the attempt."


def test_it_is_sent_again_with_its_id(world, webhook, receiver, rita) -> None:
    delivery = try_webhook(webhook=webhook, by=rita)
    send_all()
    outbox.send_again(delivery=delivery, by=rita)
    send_delivery(delivery_id=delivery.pk)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def test_notices_are_kept_for_a_month(world, webhook) -> None:
    try_webhook(webhook=webhook, by=None)
    with later(days=29):
        forget_old_notices()
        assert Delivery.objects.count() == 1
    with later(days=31):
        forget_old_notices()
        assert not Delivery.objects.exists()


# --- e-mail ---------------------------------------------------------------------------


def test_members_get_one_mail_per_event_with_a_link(
    world, mailbox, alice, rita, lena, charlie
) -> None:
    for person in (alice, rita, charlie):
        wanting(person, "scan.finished")
    wanting(lena, "regression")
    tell_of_scan(scan=world.scan)
    send_all()
    send_all()
    assert sorted(m.rcpt_tos[0] for m in mailbox.mails) == [
        "alice@example.org",
        "rita@example.org",
    ]
    mail = text_of(mailbox.mails[0])
    assert mail["Subject"] == (
        f"[Hardmine] Animals: Scan {world.scan.pk} of resnet v1 is done: "
        "3 errors in 10 samples"
    )
    assert mail["From"] == "hardmine@example.org"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "text/plain"
    body = mail.get_content()
    assert f"https://hardmine.example/datasets/animals/scans/{world.scan.pk}/" in body
    assert "Accuracy: 70.0 %" in body
    assert "https://hardmine.example/account/" in body
    uid = Delivery.objects.get(user=alice).uid
    assert mail["Message-ID"] == f"<{uid}@example.org>"


def test_a_name_cannot_write_headers_or_be_a_format(world, mailbox, alice) -> None:
    world.dataset.name = "Ani{0}mals\r\nBcc: all@example.org {account}"
    world.dataset.save()
    wanting(alice, "scan.finished")
    tell_of_scan(scan=world.scan)
    send_all()
    [mail] = map(text_of, mailbox.mails)
    assert mail["Bcc"] is None
    assert "Ani{0}mals Bcc: all@example.org {account}:" in mail["Subject"]


@pytest.mark.parametrize("why", ["chose not to", "left", "closed", "no address"])
def test_who_does_not_want_it_any_more_gets_none(why, world, mailbox, rita) -> None:
    wanting(rita, "scan.finished")
    tell_of_scan(scan=world.scan)
    if why == "chose not to":
        choose_mails(user=rita, kinds=[])
    elif why == "left":
        remove_member(membership=rita.memberships.get(), by=rita)
    elif why == "closed":
        type(rita).objects.update(is_active=False)
    else:
        type(rita).objects.update(email="")
    send_all()
    assert mailbox.mails == []
    assert not Delivery.objects.exists()


@pytest.mark.parametrize(
    ("answer", "state"), [("550 no such user", "failed"), ("451 busy", "waiting")]
)
def test_a_refused_recipient_is_final_and_a_busy_one_is_not(
    answer, state, world, mailbox, rita
) -> None:
    mailbox.answer = answer
    wanting(rita, "scan.finished")
    tell_of_scan(scan=world.scan)
    send_all()
    delivery = Delivery.objects.get()
    assert delivery.state == state
    assert delivery.error == f"The mail server refuses the address ({answer[:3]})."


def test_without_a_mail_server_it_is_tried_again(
    world, mailbox, rita, settings
) -> None:
    wanting(rita, "scan.finished")
    tell_of_scan(scan=world.scan)
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
    send_all()
    delivery = Delivery.objects.get()
    assert delivery.state == "waiting"
    assert "Connection refused" in delivery.error
    settings.EMAIL_PORT = port
    with later(minutes=2):
        send_all()
    assert len(mailbox.mails) == 1


def test_a_server_that_sends_no_mail_writes_none(world, rita, settings) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    wanting(rita, "scan.finished")
    tell_of_scan(scan=world.scan)
    assert not Notice.objects.exists()
