"""Keys are data: usual ones, a person's own, none in conflict."""

from __future__ import annotations

import pytest
from django.urls import reverse

from reviewapp.exceptions import Refused
from reviewapp.keys import ACTIONS, ALLOWED, changed_keys, keys_for
from reviewapp.models import Cause, User


def test_the_usual_keys_are_not_in_conflict():
    keys = [action.key for action in ACTIONS]
    assert len(set(keys)) == len(keys)
    assert set(keys) <= ALLOWED
    assert {f"cause_{cause}" for cause in Cause.values} <= {a.name for a in ACTIONS}


def test_only_what_differs_is_stored():
    assert changed_keys({}, on=True) == {}
    assert changed_keys({"confirm": "J ", "skip": "s"}, on=True) == {"confirm": "j"}
    user = User(keys={"confirm": "j"})
    assert (keys_for(user)["confirm"], keys_for(user)["skip"]) == ("j", "s")


def test_two_actions_may_swap_their_keys():
    assert changed_keys({"confirm": "d", "dismiss": "c"}, on=True) == {
        "confirm": "d",
        "dismiss": "c",
    }


def test_switched_off_no_key_does_anything_and_the_choice_is_kept():
    stored = changed_keys({"confirm": "j"}, on=False)
    assert not any(keys_for(User(keys=stored)).values())
    assert stored["confirm"] == "j"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"confirm": "s"}, "would have the same key s"),
        ({"confirm": "ß"}, "cannot have the key ß"),
        ({"confirm": "ab"}, "cannot have the key ab"),
        ({"confirm": "<"}, "cannot have the key <"),
    ],
)
def test_it_refuses_keys_that_cannot_be(wanted, said):
    with pytest.raises(Refused, match=said):
        changed_keys(wanted, on=True)


def test_two_actions_without_a_key_are_no_conflict():
    keys = changed_keys({"confirm": "", "skip": ""}, on=True)
    assert keys == {"confirm": "", "skip": ""}


def test_the_account_page_changes_and_refuses(rita, client_of):
    client, address = client_of(rita), reverse("account")
    page = client.get(address)
    assert 'name="confirm" value="c"' in page.text
    client.post(address, {"act": "keys", "on": "1", "confirm": "j"})
    rita.refresh_from_db()
    assert rita.keys == {"confirm": "j"}
    page = client.post(address, {"act": "keys", "on": "1", "confirm": "d"}, follow=True)
    assert "would have the same key d" in page.text
    rita.refresh_from_db()
    assert rita.keys == {"confirm": "j"}
    client.post(address, {"act": "keys", "usual": "1"})
    rita.refresh_from_db()
    assert rita.keys == {}
