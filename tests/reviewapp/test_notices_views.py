"""The pages of webhooks and of a person's e-mails."""

from __future__ import annotations

import pytest
from django.urls import reverse

from reviewapp.models import Delivery, Webhook
from reviewapp.notifying import send_delivery
from tests import factories
from tests.notices import ALL, wanting

LIST = reverse("webhook-list", args=["animals"])
ACCOUNT = reverse("account")
MAILS = reverse("account-mails")


def page_of(webhook: Webhook) -> str:
    return reverse("webhook-detail", args=["animals", webhook.pk])


@pytest.fixture
def office(alice, client_of):
    return client_of(alice)


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """Return what is sent to the broker."""
    found: list[int] = []
    monkeypatch.setattr(
        "reviewapp.tasks._send", lambda task, pks, **_: found.extend(pks)
    )
    return found


def test_an_admin_adds_a_webhook_and_sees_its_secret_once(office, receiver) -> None:
    form = {"name": "chat", "url": receiver.url(), "events": ["regression"]}
    answer = office.post(LIST, form)
    webhook = Webhook.objects.get()
    assert webhook.secret() in answer.content.decode()
    assert "no-store" in answer.headers["Cache-Control"]
    assert webhook.events == ["regression"]
    for page in (LIST, page_of(webhook)):
        text = office.get(page).content.decode()
        assert "chat" in text
        assert webhook.secret() not in text


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "https://evil.example/"}, "not among the hosts"),
        ({"url": "http://127.0.0.1:1/"}, "not among the hosts"),
        ({"url": "javascript:alert(1)"}, "begin with https://"),
        ({"url": "https://x/" + "y" * 500}, "at most 500 characters"),
        ({"events": []}, "Choose one at least."),
        ({"events": ["test"]}, "not one of the available choices"),
        ({"name": ""}, "This field is required."),
        ({"name": "a\0b"}, "Null characters are not allowed."),
    ],
)
def test_a_wrong_webhook_is_refused_on_the_page(wrong, why, office, receiver) -> None:
    form = {"name": "chat", "url": receiver.url(), "events": ["regression"]}
    assert why in office.post(LIST, form | wrong).content.decode()
    assert not Webhook.objects.exists()


def test_the_page_says_which_hosts_are_allowed_or_that_none_is(
    office, settings
) -> None:
    settings.WEBHOOK_HOSTS = ["hooks.example", "*.team.example"]
    text = office.get(LIST).content.decode()
    assert "<code>hooks.example</code>, <code>*.team.example</code>" in text
    settings.WEBHOOK_HOSTS = []
    assert "This server sends to no host" in office.get(LIST).content.decode()


@pytest.mark.parametrize("name", ["rita", "lena"])
def test_who_is_no_admin_sees_names_but_no_addresses(
    name, webhook, request, client_of
) -> None:
    client = client_of(request.getfixturevalue(name))
    text = client.get(LIST).content.decode()
    assert "chat" in text
    assert "127.0.0.1" not in text
    assert "<form" not in text.partition("<main")[2]
    assert client.post(LIST, {}).status_code == 403
    for asked in ({}, {"act": "test"}, {"act": "remove"}, {"act": "secret"}):
        assert client.post(page_of(webhook), asked).status_code == 403
    assert client.get(page_of(webhook)).status_code == 403


def test_an_admin_changes_it_and_switches_it_off(office, webhook, receiver) -> None:
    form = {
        "act": "change",
        "name": "pager",
        "url": receiver.url("/2"),
        "events": ["gate.failed", "scan.finished"],
    }
    assert office.post(page_of(webhook), form).status_code == 302
    was = webhook.secret()
    webhook.refresh_from_db()
    assert (webhook.name, webhook.is_on) == ("pager", False)
    assert webhook.events == ["scan.finished", "gate.failed"]
    assert webhook.secret() == was
    text = office.get(page_of(webhook)).content.decode()
    assert text.count("checked") == 2
    refused = office.post(page_of(webhook), form | {"url": "https://evil.example/"})
    assert "not among the hosts" in refused.content.decode()
    webhook.refresh_from_db()
    assert webhook.url == receiver.url("/2")


def test_a_test_is_sent_and_listed_and_sent_again(
    office, webhook, receiver, sent, django_capture_on_commit_callbacks
) -> None:
    receiver.status = 404
    with django_capture_on_commit_callbacks(execute=True):
        office.post(page_of(webhook), {"act": "test"})
    delivery = Delivery.objects.get()
    assert sent == [delivery.pk]
    send_delivery(delivery_id=delivery.pk)
    text = office.get(page_of(webhook)).content.decode()
    assert "A test of the webhook chat, by alice" in text
    assert "127.0.0.1 answers 404." in text
    assert "waiting" in text
    receiver.status = 200
    with django_capture_on_commit_callbacks(execute=True):
        office.post(page_of(webhook), {"again": delivery.pk})
    assert sent == [delivery.pk] * 2
    send_delivery(delivery_id=delivery.pk)
    assert len({r.headers["webhook-id"] for r in receiver.requests}) == 1
    assert ">sent</span>" in office.get(page_of(webhook)).content.decode()


@pytest.mark.parametrize("again", ["", "0", "x", "²", "9" * 30])
def test_what_is_not_its_delivery_is_404(again, office, webhook, sent) -> None:
    other = factories.DeliveryFactory(webhook__dataset=webhook.dataset)
    for chosen in (again, other.pk):
        assert office.post(page_of(webhook), {"again": chosen}).status_code == 404
    assert sent == []


def test_the_last_fifty_are_listed_in_three_queries_more(
    office, webhook, django_assert_max_num_queries
) -> None:
    for _ in range(55):
        factories.DeliveryFactory(webhook=webhook)
    with django_assert_max_num_queries(8):
        text = office.get(page_of(webhook)).content.decode()
    assert text.count('name="again"') == 50


def test_a_new_secret_and_the_removal(office, webhook) -> None:
    was = webhook.secret()
    text = office.post(page_of(webhook), {"act": "secret"}).content.decode()
    webhook.refresh_from_db()
    assert webhook.secret() != was
    assert webhook.secret() in text
    assert office.post(page_of(webhook), {"act": "remove"}).url == LIST
    assert not Webhook.objects.exists()


def test_a_person_chooses_their_mails(rita, client_of) -> None:
    client = client_of(wanting(rita))
    assert "rita@example.org" in client.get(ACCOUNT).content.decode()
    assert client.post(MAILS, {"mails": ALL[:2]}).url == ACCOUNT
    rita.refresh_from_db()
    assert rita.mails == ALL[:2]
    text = client.get(ACCOUNT).content.decode()
    assert (
        text.partition('id="mails"')[2].partition("</section>")[0].count("checked") == 2
    )
    client.post(MAILS, {"mails": ["test"]})
    rita.refresh_from_db()
    assert rita.mails == ALL[:2]
    client.post(MAILS)
    rita.refresh_from_db()
    assert rita.mails == []


def test_the_account_page_says_why_no_mail_comes(rita, client_of, settings) -> None:
    client = client_of(rita)
    assert "has no e-mail address" in client.get(ACCOUNT).content.decode()
    wanting(rita)
    Delivery.objects.create(
        notice=factories.DeliveryFactory().notice, user=rita, error="No such user."
    )
    text = client.get(ACCOUNT).content.decode()
    assert "The last e-mail to you: No such user." in text
    settings.EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    assert "This server sends no e-mail" in client.get(ACCOUNT).content.decode()
