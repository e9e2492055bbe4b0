"""The administration: what staff may change, and what nobody may."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django_celery_beat.models import PeriodicTask

from reviewapp.models import Event, Membership, Review, Role, Schedule
from tests import factories


@pytest.fixture
def boss(db):
    return factories.UserFactory(username="boss", is_staff=True, is_superuser=True)


@pytest.fixture
def office(boss, client_of) -> Client:
    return client_of(boss)


def pages() -> list[str]:
    ours = [m for m in admin.site._registry if m._meta.app_label == "reviewapp"]
    return [f"admin:reviewapp_{model._meta.model_name}_changelist" for model in ours]


def test_every_list_opens(world, office):
    assert len(pages()) >= 10
    for name in pages():
        assert office.get(reverse(name)).status_code == 200


def test_a_member_is_not_staff(alice, client_of):
    response = client_of(alice).get(reverse("admin:index"))
    assert response.status_code == 302
    assert "login" in response.url


@pytest.mark.parametrize("model", [Event, Review])
def test_what_is_append_only_stays(world, office, rita, model):
    finding = world.findings[0]
    rows = {
        Event: lambda: Event.objects.create(
            action="x", object_type="scan", object_id=1, object_label="scan 1"
        ),
        Review: lambda: Review.objects.create(
            dataset=finding.dataset,
            finding=finding,
            finding_version=0,
            reviewer=rita,
            verdict="confirm",
            label_before=finding.true_label,
            state_before="open",
        ),
    }
    row = rows[model]()
    name = f"admin:reviewapp_{model._meta.model_name}"
    change = reverse(f"{name}_change", args=[row.pk])
    assert office.get(change).status_code == 200
    assert office.post(change, {"note": "changed"}).status_code == 403
    assert office.post(reverse(f"{name}_delete", args=[row.pk])).status_code == 403
    assert office.get(reverse(f"{name}_add")).status_code == 403


def test_a_schedule_saved_here_is_one_of_the_scheduler(
    dataset, registered_model, office
):
    sent = {
        "dataset": dataset.pk,
        "registered_model": registered_model.pk,
        "split": "test",
        "cron": "0 2 * * *",
        "enabled": "on",
    }
    assert office.post(reverse("admin:reviewapp_schedule_add"), sent).status_code == 302
    schedule = Schedule.objects.get()
    assert schedule.periodic_task.crontab.hour == "2"
    address = reverse("admin:reviewapp_schedule_change", args=[schedule.pk])
    assert (
        office.post(address, {"cron": "0 3 * * *", "enabled": "on"}).status_code == 302
    )
    schedule.refresh_from_db()
    assert schedule.periodic_task.crontab.hour == "3"
    delete = reverse("admin:reviewapp_schedule_delete", args=[schedule.pk])
    assert office.post(delete, {"post": "yes"}).status_code == 302
    assert not PeriodicTask.objects.filter(name__startswith="scan schedule").exists()


def test_a_bad_cron_line_saves_nothing(dataset, registered_model, office):
    sent = {
        "dataset": dataset.pk,
        "registered_model": registered_model.pk,
        "split": "",
        "cron": "nonsense",
    }
    response = office.post(reverse("admin:reviewapp_schedule_add"), sent)
    assert response.status_code == 400
    assert "cannot be used" in response.content.decode()
    assert not Schedule.objects.exists()


def test_a_role_set_here_is_an_event(dataset, rita, boss, office):
    membership = Membership.objects.get(user=rita)
    address = reverse("admin:reviewapp_membership_change", args=[membership.pk])
    assert office.post(address, {"role": "lead"}).status_code == 302
    membership.refresh_from_db()
    assert membership.role == Role.LEAD
    assert Event.objects.get(action="role set").actor == boss


def test_the_only_admin_stays_one_here_too(dataset, alice, office):
    membership = Membership.objects.get(user=alice)
    address = reverse("admin:reviewapp_membership_delete", args=[membership.pk])
    response = office.post(address, {"post": "yes"})
    assert response.status_code == 400
    assert "is the only admin" in response.content.decode()
    assert Membership.objects.filter(pk=membership.pk).exists()


def test_an_account_is_switched_off_and_never_deleted(world, alice, office):
    name = "admin:reviewapp_user"
    change = reverse(f"{name}_change", args=[alice.pk])
    page = office.get(change).content.decode()
    assert "An account is never deleted" in page
    assert "/delete/" not in page
    delete = reverse(f"{name}_delete", args=[alice.pk])
    assert office.post(delete, {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [alice.pk]}
    office.post(reverse(f"{name}_changelist"), chosen | {"post": "yes"})
    assert world.dataset.memberships.filter(user=alice).exists()
