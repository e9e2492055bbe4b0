"""Data sets: the list, registering one and watching it."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from reviewapp.models import Dataset, Membership, Registration, Role
from tests import factories
from tests.images import write_image

HTMX = {"HX-Request": "true"}
NEW = reverse("dataset-new")
AGAIN = reverse("dataset-register", args=["animals"])


@pytest.fixture
def staff(db):
    return factories.UserFactory(username="staff", is_staff=True)


def page_of(registration: Registration) -> str:
    return reverse("registration-detail", args=["animals", registration.pk])


def test_the_list_shows_size_and_registration(dataset, rita, charlie, client_of):
    factories.RegistrationFactory(dataset=dataset, total=1234)
    factories.RegistrationFactory(dataset=dataset, state=Registration.State.FAILED)
    html = client_of(rita).get(reverse("dataset-list")).content.decode()
    assert re.findall(r'<td class="num">([^<]+)</td>', html) == ["1,234", "3"]
    assert "tag--failed" in html
    others = client_of(charlie).get(reverse("dataset-list")).content.decode()
    assert "Animals" not in others


def test_more_data_sets_cost_no_more_queries(dataset, rita, client_of):
    client = client_of(rita)

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            assert client.get(reverse("dataset-list")).status_code == 200
        return len(found)

    before = queries()
    for _ in range(29):
        another = factories.DatasetFactory()
        factories.RegistrationFactory(dataset=another)
        factories.MembershipFactory(user=rita, dataset=another)
    assert before == queries() == 4  # session, user, registrations, data sets


def test_only_staff_registers(dataset, alice, client_of):
    response = client_of(alice).get(NEW)
    assert response.status_code == 403
    assert "Only staff may register" in response.content.decode()
    sent = {"name": "Mine", "root": settings.DATA_ROOTS[0]}
    assert client_of(alice).post(NEW, sent).status_code == 403
    assert not Dataset.objects.filter(name="Mine").exists()


def test_registering_queues_a_reading_and_makes_its_admin(
    staff, data_root, client_of, django_capture_on_commit_callbacks
):
    write_image(data_root / "pets" / "cat" / "1.png", 60)
    client = client_of(staff)
    assert settings.DATA_ROOTS[0] in client.get(NEW).content.decode()
    sent = {"name": "Pets", "root": str(data_root / "pets"), "manifest": ""}
    with django_capture_on_commit_callbacks() as callbacks:
        response = client.post(NEW, sent)
    registration = Registration.objects.get()
    assert response.url == reverse(
        "registration-detail", args=["pets", registration.pk]
    )
    assert registration.state == Registration.State.QUEUED
    assert len(callbacks) == 1
    assert Membership.objects.get(user=staff).role == Role.ADMIN


@pytest.mark.parametrize(
    ("name", "root", "words"),
    [
        ("Pets", "/etc", "HARDMINE_DATA_ROOTS"),
        ("Pets", "{root}/../../etc", "HARDMINE_DATA_ROOTS"),
        ("---", "{root}", "with a letter or digit"),
        ("Animals", "{root}", "already a data set named"),
        ("", "{root}", "This field is required"),
    ],
)
def test_a_refused_registration_keeps_the_input(
    dataset, staff, data_root, client_of, name, root, words
):
    root = root.format(root=data_root)
    html = client_of(staff).post(NEW, {"name": name, "root": root}).content.decode()
    assert words in html
    assert f'value="{root}"' in html
    assert Dataset.objects.count() == 1


def test_registering_again_is_for_admins(
    dataset, alice, lena, charlie, client_of, django_capture_on_commit_callbacks
):
    assert client_of(charlie).post(AGAIN).status_code == 404
    assert client_of(lena).post(AGAIN).status_code == 403
    assert client_of(alice).get(AGAIN).status_code == 405
    assert dataset.registrations.count() == 1
    with django_capture_on_commit_callbacks() as callbacks:
        response = client_of(alice).post(AGAIN)
    assert response.url == page_of(dataset.registrations.latest("pk"))
    assert len(callbacks) == 1
    refused = client_of(alice).post(AGAIN)
    assert refused.status_code == 409
    assert "is being registered already" in refused.content.decode()


def test_a_running_registration_is_polled_until_it_ends(dataset, rita, client_of):
    registration = factories.RegistrationFactory(
        dataset=dataset, state=Registration.State.RUNNING, done=300
    )
    client = client_of(rita)
    page = client.get(page_of(registration)).content.decode()
    assert "300 images read" in page
    assert 'hx-trigger="every 1s"' in page
    fragment = client.get(page_of(registration), headers=HTMX)
    assert fragment.status_code == 200
    assert b"<html" not in fragment.content

    registration.state, registration.total = Registration.State.DONE, 500
    registration.finished_at = timezone.now()
    registration.save()
    last = client.get(page_of(registration), headers=HTMX)
    assert last.status_code == 286  # htmx stops polling
    assert "hx-trigger" not in last.content.decode()
    assert "<dd>500</dd>" in last.content.decode()


def test_a_second_registration_knows_about_how_many_there_are(dataset, rita, client_of):
    factories.RegistrationFactory(dataset=dataset, total=400)
    registration = factories.RegistrationFactory(
        dataset=dataset, state=Registration.State.RUNNING, done=100
    )
    page = client_of(rita).get(page_of(registration)).content.decode()
    assert "100 of about 400 images" in page
    assert 'max="400" value="100"' in page


def test_a_failed_registration_says_why_in_full(dataset, rita, client_of):
    registration = factories.RegistrationFactory(
        dataset=dataset,
        state=Registration.State.FAILED,
        message="labels.csv has 1 problem\n  line 3: <no> label",
        finished_at=timezone.now(),
    )
    page = client_of(rita).get(page_of(registration)).content.decode()
    assert "line 3: &lt;no&gt; label" in page
    assert "register again" in page


def test_a_registration_of_another_data_set_is_not_there(
    dataset, rita, charlie, client_of
):
    foreign = factories.RegistrationFactory(dataset=Dataset.objects.get(slug="other"))
    assert client_of(rita).get(page_of(foreign)).status_code == 404
    own = dataset.registrations.get()
    assert client_of(charlie).get(page_of(own)).status_code == 404
