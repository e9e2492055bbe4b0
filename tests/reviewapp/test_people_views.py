"""Signing in, one's account, and the members of a data set."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from axes.models import AccessAttempt
from axes.utils import reset
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from reviewapp.models import Event, Membership, Role
from tests import factories

PASSWORD = "correct horse battery"
SIGN_IN = reverse("sign-in")
ACCOUNT = reverse("account")
MEMBERS = reverse("member-list", args=["animals"])


@pytest.fixture
def throttle(db):
    """No attempts remembered before, none afterwards."""
    reset()
    yield
    reset()


def sign_in(name: str, password: str, **more: str):
    sent = {"username": name, "password": password, **more}
    return Client().post(SIGN_IN, sent)


def test_a_page_asks_for_a_sign_in_and_leads_back(rita):
    address = reverse("dataset-detail", args=["animals"])
    response = Client().get(address)
    assert response.url == f"{SIGN_IN}?next={address}"
    page = Client().get(response.url).content.decode()
    assert f'name="next" value="{address}"' in page
    assert sign_in("rita", PASSWORD, next=address).url == address


DECIDE = reverse("finding-decide", args=["animals", 1])
DESK = reverse("review-finding", args=["animals", 1])


@pytest.mark.parametrize(
    ("referrer", "back"),
    [
        (f"http://testserver{DESK}?lane=label", f"{DESK}?lane=label"),
        (f"http://testserver{DESK}", DESK),
        (f"http://example.com{DESK}", DECIDE),
        ("http://testserver.example.com/x/", DECIDE),
        ("http://[", DECIDE),
        ("javascript:alert(1)", DECIDE),
        ("", DECIDE),
    ],
)
def test_a_form_sent_after_the_session_ended_leads_back_to_its_page(db, referrer, back):
    client = Client(headers={"Referer": referrer} if referrer else {})
    response = client.post(DECIDE, {"verdict": "confirm"})
    assert response.url == f"{SIGN_IN}?{urlencode({'next': back}, safe='/')}"
    page = client.get(response.url).content.decode()
    assert "what you sent was not carried out. Sign in, then send it again." in page
    assert f'name="next" value="{back}"' in page


def test_an_address_that_is_no_page_leads_to_one(rita, client_of):
    response = client_of(rita).get(f"{DECIDE}?lane=label")
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"
    assert f'href="{DESK}?lane=label"' in response.content.decode()
    assert "form" in client_of(rita).get(reverse("sign-out")).content.decode()


def test_a_sign_in_never_leads_to_another_site(rita, throttle):
    assert sign_in("rita", PASSWORD, next="https://example.com/").url == "/"


def test_too_many_wrong_passwords_lock_and_say_for_how_long(rita, throttle):
    for _ in range(settings.AXES_FAILURE_LIMIT - 1):
        response = sign_in("rita", "wrong")
        assert response.status_code == 200
        assert "correct username and password" in response.content.decode()
    sign_in("rita", "wrong")
    locked = sign_in("rita", PASSWORD)
    assert locked.status_code == 429
    assert "closed for 15 min" in locked.content.decode()


@pytest.mark.parametrize("address", [SIGN_IN, reverse("admin:login")])
@pytest.mark.parametrize("name", ["x" * 10_000, "x" * 151, "a\0b"])
def test_a_name_that_no_account_can_have_is_refused_before_it_is_looked_up(
    throttle, address, name
):
    sent = {"username": name, "password": "wrong"}
    response = Client().post(address, sent)
    assert response.status_code == 200
    assert "username" in response.context["form"].errors
    assert not AccessAttempt.objects.exists()


def test_a_session_cookie_with_a_nul_is_nobodys(db):
    response = Client().get(ACCOUNT, headers={"Cookie": r'sessionid="\000aaaaaaaaaaa"'})
    assert response.url == f"{SIGN_IN}?next={ACCOUNT}"


def test_ones_account_leads_to_ones_verdicts_and_keys(rita, dataset, client_of):
    page = client_of(rita).get(ACCOUNT).content.decode()
    assert f'href="{reverse("review-verdicts", args=[dataset.slug])}"' in page
    assert 'href="#keys-title"' in page
    assert 'id="keys-title"' in page


def test_what_a_page_sends_when_it_is_left_is_missed_by_nobody(dataset):
    """Signing out leaves the desk; what it gives back by then arrives too late."""
    client = Client()
    address = reverse("review-release", args=[dataset.slug])
    assert client.post(address, {"beacon": "1"}).status_code == 302
    assert "You were signed out" not in client.get(SIGN_IN).content.decode()


def test_signing_out_is_a_post(rita, client_of):
    client = client_of(rita)
    assert client.get(reverse("sign-out")).status_code == 405
    assert client.get(ACCOUNT).status_code == 200
    assert client.post(reverse("sign-out")).url == SIGN_IN
    assert client.get(ACCOUNT).status_code == 302


def test_changing_the_password_keeps_the_session(rita, client_of):
    client = client_of(rita)
    fresh = "a different sentence 7"
    sent = {"old_password": PASSWORD, "new_password1": fresh, "new_password2": fresh}
    assert client.post(ACCOUNT, sent | {"act": "password"}).url == ACCOUNT
    assert "Your password was changed" in client.get(ACCOUNT).content.decode()
    rita.refresh_from_db()
    assert rita.check_password(fresh)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("wrong", "a different sentence 7", "old password was entered incorrectly"),
        (PASSWORD, "short", "too short"),
    ],
)
def test_a_refused_password_changes_nothing(rita, client_of, old, new, words):
    sent = {"old_password": old, "new_password1": new, "new_password2": new}
    html = client_of(rita).post(ACCOUNT, sent | {"act": "password"}).content.decode()
    assert words in html
    rita.refresh_from_db()
    assert rita.check_password(PASSWORD)


def test_a_token_is_shown_once_and_works_until_revoked(rita, client_of):
    client = client_of(rita)
    response = client.post(ACCOUNT, {"act": "token", "days": "30"})
    assert "no-store" in response.headers["Cache-Control"]
    token = re.search(r'id="fresh-token">([^<]+)<', response.content.decode())[1]
    saved = AuthToken.objects.get()
    assert saved.user == rita
    assert abs(saved.expiry - timezone.now() - timedelta(days=30)) < timedelta(
        minutes=1
    )
    page = client.get(ACCOUNT).content.decode()
    assert token not in page
    assert Event.objects.get(action="token made").data == {"token": saved.token_key}
    assert saved.token_key in page
    assert (
        client.post(ACCOUNT, {"act": "revoke", "token": saved.token_key}).url == ACCOUNT
    )
    assert not AuthToken.objects.exists()


def test_a_token_may_work_until_it_is_revoked(rita, client_of):
    client_of(rita).post(ACCOUNT, {"act": "token", "days": ""})
    assert AuthToken.objects.get().expiry is None


def test_an_unknown_time_makes_no_token(rita, client_of):
    response = client_of(rita).post(ACCOUNT, {"act": "token", "days": "10000"})
    assert "errorlist" in response.content.decode()
    assert not AuthToken.objects.exists()


def test_nobody_revokes_the_token_of_another(rita, lena, client_of):
    token, _ = AuthToken.objects.create(lena)
    for chosen in (token.token_key, "a\0b"):
        sent = {"act": "revoke", "token": chosen}
        assert client_of(rita).post(ACCOUNT, sent).status_code == 404
    assert AuthToken.objects.exists()


def test_members_are_seen_by_all_and_changed_by_admins(
    alice, lena, rita, charlie, client_of
):
    page = client_of(rita).get(MEMBERS).content.decode()
    assert re.findall(r'<th scope="row">(\w+)', page) == ["alice", "lena", "rita"]
    assert "<select" not in page
    assert client_of(charlie).get(MEMBERS).status_code == 404
    sent = {"user": "rita", "role": "lead"}
    assert client_of(charlie).post(MEMBERS, sent).status_code == 404
    assert client_of(lena).post(MEMBERS, sent).status_code == 403
    assert client_of(alice).post(MEMBERS, sent).url == MEMBERS
    assert Membership.objects.get(user=rita).role == Role.LEAD
    assert Event.objects.get(action="role set").actor == alice


def test_an_admin_adds_and_removes_a_member(dataset, alice, client_of):
    ravi = factories.UserFactory(username="ravi")
    client = client_of(alice)
    assert client.post(MEMBERS, {"user": "ravi", "role": "reviewer"}).url == MEMBERS
    membership = dataset.memberships.get(user=ravi)
    assert client.post(MEMBERS, {"remove": membership.pk}).url == MEMBERS
    assert not dataset.memberships.filter(user=ravi).exists()


def test_an_unknown_name_or_role_is_explained_and_kept(dataset, alice, client_of):
    factories.UserFactory(username="gone", is_active=False)
    for name in ("nobody", "gone"):
        sent = {"user": name, "role": "lead"}
        html = client_of(alice).post(MEMBERS, sent).content.decode()
        assert "no active account with this user name" in html
        assert f'value="{name}"' in html
    html = client_of(alice).post(MEMBERS, {"user": "alice", "role": "king"})
    assert "Select a valid choice" in html.content.decode()
    assert dataset.memberships.count() == 1


def test_the_only_admin_stays_one(dataset, alice, client_of):
    client = client_of(alice)
    html = client.post(MEMBERS, {"user": "alice", "role": "lead"}).content.decode()
    assert "is the only admin" in html
    membership = dataset.memberships.get()
    refused = client.post(MEMBERS, {"remove": membership.pk})
    assert refused.status_code == 400
    assert "is the only admin" in refused.content.decode()
    membership.refresh_from_db()
    assert membership.role == Role.ADMIN


def test_a_member_of_another_data_set_cannot_be_removed(alice, charlie, client_of):
    foreign = Membership.objects.get(user=charlie)
    for chosen in (foreign.pk, "x", "²", "9" * 40, "9" * 5000):
        assert client_of(alice).post(MEMBERS, {"remove": chosen}).status_code == 404
    assert Membership.objects.filter(pk=foreign.pk).exists()


def test_more_members_cost_no_more_queries(
    dataset, alice, client_of, django_assert_num_queries
):
    client = client_of(alice)
    for _ in range(2):
        # session, user, data set, role, members
        with django_assert_num_queries(5):
            assert client.get(MEMBERS).status_code == 200
        for _ in range(29):
            factories.MembershipFactory(dataset=dataset)
