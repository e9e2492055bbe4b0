"""Telling: what is put in the outbox of a scan, a regression, a gate; and for whom."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, transaction

from reviewapp import tasks
from reviewapp.actions.notices import (
    add_webhook,
    change_webhook,
    choose_mails,
    remove_webhook,
    renew_secret,
)
from reviewapp.actions.scans import fail_scan
from reviewapp.actions.telling import ENDED, tell_of_scan
from reviewapp.exceptions import Refused
from reviewapp.models import (
    Confusion,
    ConfusionEvent,
    Delivery,
    Event,
    Notice,
    Scan,
    Webhook,
)
from tests import factories
from tests.comparing import add_samples, add_scan
from tests.faults import run_all, start
from tests.notices import ALL, bodies, later, send_all, wanting


def test_the_end_of_a_scan_is_told_with_its_counts_and_those_before(
    world, version, webhook, receiver
) -> None:
    before = world.scan
    scan = factories.ScanFactory(model_version=version, correct=8, errors=2)
    tell_of_scan(scan=scan)
    send_all()
    [got] = bodies(receiver)
    assert got["type"] == "scan.finished"
    data = got["data"]
    assert data["title"] == (
        f"Scan {scan.pk} of resnet v1 is done: 2 errors in 10 samples (3)"
    )
    assert data["url"] == f"https://hardmine.example/datasets/animals/scans/{scan.pk}/"
    assert data["dataset"] == {"slug": "animals", "name": "Animals"}
    assert data["scan"]["accuracy"] == 0.8
    assert (data["scan"]["errors"], data["before"]["errors"]) == (2, 3)
    assert data["before"]["id"] == before.pk
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.status, delivery.attempts) == ("sent", 204, 1)


def test_a_scan_of_another_split_or_for_the_record_is_not_the_one_before(
    world, version, webhook, receiver
) -> None:
    factories.ScanFactory(model_version=version, split="val", correct=1)
    factories.ScanFactory(model_version=version, for_record=True, correct=1)
    scan = factories.ScanFactory(model_version=version, correct=8, errors=2)
    tell_of_scan(scan=scan)
    send_all()
    assert bodies(receiver)[0]["data"]["before"]["id"] == world.scan.pk


def test_what_came_back_is_told_by_name(world, webhook, receiver) -> None:
    line = Confusion.objects.get()
    ConfusionEvent.objects.create(
        confusion=line, scan=world.scan, old_state="fixed", new_state="regressed"
    )
    ConfusionEvent.objects.create(confusion=line, scan=world.scan, new_state="open")
    tell_of_scan(scan=world.scan)
    send_all()
    kinds = {body["type"]: body["data"] for body in bodies(receiver)}
    assert set(kinds) == {"scan.finished", "regression"}
    told = kinds["regression"]
    assert told["title"] == (
        f"1 confusion is back in scan {world.scan.pk} of resnet v1"
    )
    assert told["count"] == 1
    assert told["confusions"] == [
        {"id": line.pk, "true_label": "cat", "predicted_label": "dog", "errors": 3}
    ]


def test_without_a_regression_none_is_told(world, webhook, receiver) -> None:
    tell_of_scan(scan=world.scan)
    assert list(Notice.objects.values_list("kind", flat=True)) == ["scan.finished"]


def test_a_failed_scan_is_told_with_the_reason(
    world, version, webhook, receiver
) -> None:
    scan = factories.ScanFactory(model_version=version, state="running", split="val")
    fail_scan(scan=scan, message="The checkpoint is gone.")
    fail_scan(scan=scan, message="Once more.")
    send_all()
    [got] = bodies(receiver)
    assert got["data"]["title"] == f"Scan {scan.pk} of resnet v1 failed"
    assert got["data"]["scan"]["message"] == "The checkpoint is gone."
    assert got["data"]["scan"]["state"] == "failed"


def test_a_real_scan_tells_at_its_end_once_and_goes_to_the_workers(
    net, receiver, staff, sent
) -> None:
    dataset = net.registered_model.dataset
    add_webhook(dataset=dataset, name="chat", url=receiver.url(), events=ALL, by=staff)
    scan = run_all(start(net))
    tasks.finish_scan(scan.pk)  # its message came twice
    delivery = Delivery.objects.get()
    assert sent.count(("send_delivery", delivery.pk)) == 1
    tasks.send_delivery(delivery.pk)
    [got] = bodies(receiver)
    assert got["data"]["scan"]["errors"] == scan.errors == 5
    assert got["data"]["before"] is None


def test_what_is_rolled_back_is_not_told(world, webhook) -> None:
    with transaction.atomic():
        tell_of_scan(scan=world.scan)
        assert Delivery.objects.count() == 1
        transaction.set_rollback(True)
    assert not Notice.objects.exists()


def test_nothing_is_written_when_nobody_wants_it(
    world, webhook, alice, charlie
) -> None:
    wanting(charlie, *ALL)  # a member of another data set
    wanting(alice, "gate.failed")
    Webhook.objects.update(is_on=False)
    factories.WebhookFactory(dataset=world.dataset, events=["regression"])
    factories.WebhookFactory(dataset=charlie.memberships.get().dataset, events=ALL)
    tell_of_scan(scan=world.scan)
    assert not Notice.objects.exists()


# --- the gate -------------------------------------------------------------------------


@pytest.fixture
def gate(labels, version, registered_model, monkeypatch):
    """Return a function that runs the gate and returns its exit status."""
    samples = add_samples(labels, "ccccddddff")
    newer = factories.ModelVersionFactory(registered_model=registered_model)
    scans = (
        add_scan(version, samples, "ccdddddfcf"),
        add_scan(newer, samples, "cdcdddddcf"),
    )
    monkeypatch.setattr(tasks, "_send", lambda task, pks, **options: None)

    def gate(*asked: str) -> int:
        given = [f"--baseline={scans[0].pk}", f"--candidate={scans[1].pk}"]
        try:
            call_command("gate", *given, *asked)
        except CommandError as error:
            return error.returncode
        return 0

    return gate


def test_a_closed_gate_is_told_with_its_conditions(gate, webhook, receiver) -> None:
    assert gate("--max-regressions=0", "--min-gain=-5") == 1
    with later(minutes=6):
        send_all()
    [got] = bodies(receiver)
    assert got["type"] == "gate.failed"
    assert got["data"]["title"] == "The gate is closed: resnet v2 against resnet v1"
    assert [c["passed"] for c in got["data"]["conditions"]] == [False, True]
    assert got["data"]["conditions"][0]["said"] == "1 broken, at most 0 allowed"
    ids = got["data"]["baseline"]["id"], got["data"]["candidate"]["id"]
    assert got["data"]["url"].endswith("/datasets/animals/compare/{}/{}/".format(*ids))


@pytest.mark.parametrize(
    "asked",
    [
        ["--max-regressions=9"],
        ["--max-regressions=0", "--silent"],
        ["--labels=original"],
    ],
)
def test_an_open_silent_or_unanswered_gate_tells_nobody(asked, gate, webhook) -> None:
    gate(*asked)
    assert not Notice.objects.exists()


def test_a_gate_that_cannot_tell_is_closed_all_the_same(
    gate, webhook, monkeypatch, capsys
) -> None:
    def tell_of_gate(**_):
        raise OperationalError("read-only")

    monkeypatch.setattr("reviewapp.management.commands.gate.tell_of_gate", tell_of_gate)
    assert gate("--max-regressions=0") == 1
    assert "Nobody is told of it: read-only" in capsys.readouterr().err


# --- webhooks -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "https://evil.example/"}, "not among the hosts"),
        ({"events": []}, "Choose what it is told of"),
        ({"events": ["test"]}, "Choose what it is told of"),
        ({"name": "chat"}, "There is a webhook 'chat' already"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(
    wrong, why, webhook, receiver, dataset, alice
) -> None:
    right = {"name": "other", "url": receiver.url(), "events": ["regression"]}
    with pytest.raises(Refused, match=why):
        add_webhook(dataset=dataset, by=alice, **right | wrong)
    assert Webhook.objects.count() == 1


def test_a_data_set_has_20_webhooks_at_most(receiver, dataset, alice) -> None:
    for _ in range(20):
        factories.WebhookFactory(dataset=dataset)
    with pytest.raises(Refused, match="20 webhooks at most"):
        add_webhook(dataset=dataset, name="x", url=receiver.url(), events=ALL, by=alice)


def test_events_tell_of_webhooks_but_not_their_addresses(
    webhook, receiver, alice
) -> None:
    change_webhook(
        webhook=webhook,
        name="pager",
        url=receiver.url("/secret-path"),
        events=["regression"],
        is_on=False,
        by=alice,
    )
    renew_secret(webhook=webhook, by=alice)
    remove_webhook(webhook=webhook, by=alice)
    said = list(Event.objects.order_by("id").values_list("action", flat=True))
    assert said == [
        "webhook added",
        "webhook changed",
        "webhook secret renewed",
        "webhook removed",
    ]
    assert "secret-path" not in str(list(Event.objects.values()))


def test_a_host_that_is_not_allowed_any_more_can_be_switched_off(
    webhook, settings, alice
) -> None:
    settings.WEBHOOK_HOSTS = []
    same = {"name": "old", "url": webhook.url, "events": webhook.events, "by": alice}
    with pytest.raises(Refused, match="not among the hosts"):
        change_webhook(webhook=webhook, is_on=True, **same)
    with pytest.raises(Refused, match="not among the hosts"):
        change_webhook(webhook=webhook, is_on=False, **same | {"url": "https://x/"})
    change_webhook(webhook=webhook, is_on=False, **same)
    webhook.refresh_from_db()
    assert (webhook.name, webhook.is_on) == ("old", False)


def test_a_change_keeps_a_secret_that_was_renewed_meanwhile(webhook, alice) -> None:
    """A leaked secret must not come back by a form that was loaded before."""
    seen = Webhook.objects.get()
    renewed = renew_secret(webhook=webhook, by=alice).secret()
    rest = {"name": "pager", "url": seen.url, "events": ALL, "is_on": True}
    change_webhook(webhook=seen, by=alice, **rest)
    assert Webhook.objects.get().secret() == renewed
    assert Webhook.objects.get().name == "pager"


def test_a_webhook_that_was_removed_meanwhile_stays_removed(webhook, alice) -> None:
    seen = Webhook.objects.get()
    remove_webhook(webhook=webhook, by=alice)
    rest = {"name": "pager", "url": seen.url, "events": ALL, "is_on": True}
    with pytest.raises(Refused, match="removed meanwhile"):
        change_webhook(webhook=seen, by=alice, **rest)
    with pytest.raises(Refused, match="removed meanwhile"):
        renew_secret(webhook=seen, by=alice)
    assert not Webhook.objects.exists()
    assert Event.objects.latest("id").action == "webhook removed"


def test_a_kind_that_does_not_exist_cannot_be_chosen(rita) -> None:
    with pytest.raises(Refused):
        choose_mails(user=rita, kinds=["test"])
    assert choose_mails(user=rita, kinds=["gate.failed", "scan.finished"]).mails == [
        "scan.finished",
        "gate.failed",
    ]


def test_every_end_of_a_scan_is_in_words() -> None:
    ends = set(Scan.State) - set(Scan.ACTIVE) - {Scan.State.CANCELLED}
    assert set(ENDED) == ends
