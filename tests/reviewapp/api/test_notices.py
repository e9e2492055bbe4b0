"""Webhooks over the API."""

from __future__ import annotations

import pytest

from reviewapp.models import Delivery, Webhook
from reviewapp.notifying import send_delivery

HOOKS = "/api/datasets/animals/webhooks/"
DELIVERIES = "/api/datasets/animals/deliveries/"


@pytest.fixture
def api(alice, api_of):
    return api_of(alice)


def test_a_webhook_is_added_with_a_secret_that_no_later_answer_has(
    api, receiver
) -> None:
    body = {"name": "chat", "url": receiver.url(), "events": ["scan.finished"]}
    made = api.post(HOOKS, body)
    assert made.status_code == 201
    secret = made.json().pop("secret")
    webhook = Webhook.objects.get()
    assert secret == webhook.secret()
    listed = api.get(HOOKS).json()["results"]
    assert listed == [api.get(f"{HOOKS}{webhook.pk}/").json()]
    assert listed[0].keys() == {"id", "name", "url", "events", "is_on", "created_at"}
    renewed = api.post(f"{HOOKS}{webhook.pk}/secret/").json()["secret"]
    assert renewed != secret


def test_it_is_changed_in_parts_and_removed(api, webhook, receiver) -> None:
    url = f"{HOOKS}{webhook.pk}/"
    changed = api.patch(url, {"is_on": False}).json()
    assert (changed["is_on"], changed["name"], changed["url"]) == (
        False,
        "chat",
        receiver.url(),
    )
    assert api.patch(url, {"url": "https://evil.example/"}).status_code == 400
    assert api.patch(url, {"salt": "x"}).status_code == 400
    assert api.patch(url, {"events": []}).status_code == 400
    assert api.patch(url, {"events": ["regression"]}).json()["events"] == ["regression"]
    assert api.delete(url).status_code == 204
    assert not Webhook.objects.exists()


def test_a_test_is_sent_seen_and_sent_again(
    api, webhook, receiver, monkeypatch, django_capture_on_commit_callbacks
) -> None:
    def send(task, pks, **_):
        for pk in pks:
            send_delivery(delivery_id=pk)

    monkeypatch.setattr("reviewapp.tasks._send", send)
    with django_capture_on_commit_callbacks(execute=True):
        made = api.post(f"{HOOKS}{webhook.pk}/test/")
    assert made.status_code == 202
    assert made.json()["state"] == "waiting"
    [found] = api.get(DELIVERIES).json()["results"]
    assert (found["state"], found["kind"], found["status"]) == ("sent", "test", 204)
    with django_capture_on_commit_callbacks(execute=True):
        again = api.post(f"{DELIVERIES}{found['id']}/again/")
    assert again.status_code == 202
    assert [r.headers["webhook-id"] for r in receiver.requests] == [found["uid"]] * 2


def test_only_admins_read_or_change(webhook, lena, rita, api_of) -> None:
    one = f"{HOOKS}{webhook.pk}/"
    delivery = Delivery.objects.create(
        webhook=webhook,
        notice=webhook.dataset.notices.create(kind="test", title="x", path="/"),
    )
    for person in (lena, rita):
        client = api_of(person)
        for url in (HOOKS, one, DELIVERIES, f"{DELIVERIES}{delivery.pk}/"):
            assert client.get(url).status_code == 403
        for url in (HOOKS, f"{one}test/", f"{one}secret/"):
            assert client.post(url, {}).status_code == 403
        assert client.post(f"{DELIVERIES}{delivery.pk}/again/").status_code == 403
        assert client.patch(one, {"is_on": False}).status_code == 403
        assert client.delete(one).status_code == 403
    webhook.refresh_from_db()
    assert webhook.is_on
