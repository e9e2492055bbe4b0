"""One verdict on many findings, by scripts."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from reviewapp.actions.reviews import hold
from reviewapp.models import Finding, Opinion, Review

URL = "/api/datasets/animals/bulk-verdicts/"


@pytest.fixture
def body(world) -> dict[str, object]:
    return {
        "findings": [{"id": f.pk, "version": f.version} for f in world.findings],
        "verdict": "dismiss",
        "reason": "duplicate",
        "causes": ["blur"],
        "note": "one camera",
        "key": str(uuid4()),
    }


def test_a_script_decides_many_and_takes_it_back(world, rita, lena, api_of, body):
    held = world.findings[0]
    hold(findings=[held.pk], by=lena)
    client = api_of(rita)
    answer = client.post(URL, body)
    assert answer.status_code == 201
    done = answer.json()
    assert done["decided"] == [finding.pk for finding in world.findings[1:]]
    (refused,) = done["refused"]
    assert refused["id"] == held.pk
    assert refused["why"].startswith("lena is looking at this finding")
    assert client.post(URL, body).json()["decided"] == done["decided"]
    assert set(Review.objects.values_list("reason", "note")) == {
        ("duplicate", "one camera")
    }
    undone = client.post(f"{URL}{done['batch']}/undo/").json()
    assert sorted(undone["undone"]) == sorted(done["decided"])
    assert not Finding.objects.exclude(review_state="open").exists()
    again = client.post(f"{URL}{done['batch']}/undo/")
    assert again.status_code == 400


def test_relabel_takes_a_class_of_the_data_set(world, labels, rita, api_of, body):
    body |= {"verdict": "relabel", "new_label": labels[2].pk}
    del body["reason"]
    assert len(api_of(rita).post(URL, body).json()["decided"]) == 3
    assert api_of(rita).post(URL, {**body, "new_label": 10**9}).status_code == 404


def test_nobody_undoes_the_batch_of_another(world, rita, lena, api_of, body):
    done = api_of(rita).post(URL, body).json()
    assert api_of(lena).post(f"{URL}{done['batch']}/undo/").status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"findings": []},
        {"findings": [{"id": 1, "version": -1}]},
        {"findings": [{"id": n, "version": 0} for n in range(1, 502)]},
        {"findings": [{"id": 2**63, "version": 0}]},
        {"verdict": "shred"},
        {"key": "once"},
        {"key": str(UUID(int=7))},  # a number: the keys of a batch begin alike
        {"reviewer": "lena"},
    ],
)
def test_nonsense_is_refused(world, rita, api_of, body, change):
    assert api_of(rita).post(URL, {**body, **change}).status_code == 400
    assert not Review.objects.exists()


def test_blind_opinions_are_taken_back_as_one_too(world, rita, api_of, body):
    world.dataset.overlap = 2
    world.dataset.save()
    client = api_of(rita)
    done = client.post(URL, body).json()
    assert len(done["decided"]) == 3
    assert Opinion.objects.count() == 3
    undone = client.post(f"{URL}{done['batch']}/undo/").json()
    assert len(undone["undone"]) == 3
    assert not Opinion.objects.exists()
