"""Fix sets that are frozen while somebody else changes what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.db import OperationalError, connection, transaction

from reviewapp.actions import fixsets
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.reviews import undo
from reviewapp.exceptions import Refused
from reviewapp.models import Finding, FixSet, Label, Sample

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def elsewhere() -> Iterator[Callable]:
    """Call something on a connection of its own."""

    def call(work):
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        yield lambda work: pool.submit(call, work)


def freeze(world, by, name="first") -> FixSet:
    return freeze_fix_set(
        dataset=world.dataset, name=name, findings=Finding.objects.all(), by=by
    )


def impatient(work: Callable) -> None:
    """Do something that does not wait for a lock."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '50ms'")
        work()


def take_back(world, by) -> None:
    undo(review=world.findings[0].reviews.get(), by=by)


CHANGES = {
    "a verdict is taken back": take_back,
    "the image changes": lambda world, by: Sample.objects.filter(
        pk=world.findings[0].sample_id
    ).update(digest="ab" * 32),
    "another model's finding is relabelled": lambda world, by: Sample.objects.filter(
        pk=world.findings[0].sample_id
    ).update(label=world.labels[1]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_after_it_was_chosen_marks_it(
    change, reviewed, rita, alice, elsewhere, monkeypatch
) -> None:
    pick = fixsets.pick

    def slow(*args, **options):
        picked = pick(*args, **options)
        elsewhere(lambda: change(reviewed, rita)).result(timeout=30)
        return picked

    monkeypatch.setattr(fixsets, "pick", slow)
    fix_set = freeze(reviewed, alice)
    fix_set.refresh_from_db()
    key = reviewed.findings[0].sample.key
    assert fix_set.stale_because.endswith(
        f"{key} changed while the set was being frozen"
    )
    assert fix_set.items.count() == 2


def test_it_waits_for_a_verdict_that_is_not_committed(
    reviewed, rita, alice, elsewhere
) -> None:
    is_written, may_commit = Event(), Event()

    def slow():
        with transaction.atomic():
            take_back(reviewed, rita)
            is_written.set()
            assert may_commit.wait(30)

    going = elsewhere(slow)
    assert is_written.wait(30)
    with pytest.raises(OperationalError, match="lock timeout"):
        impatient(lambda: freeze(reviewed, alice))
    may_commit.set()
    going.result(timeout=30)
    assert freeze(reviewed, alice).size == 1


def test_a_verdict_waits_until_it_is_committed_and_marks_it(
    reviewed, rita, alice, elsewhere
) -> None:
    with transaction.atomic():
        fix_set = freeze(reviewed, alice)
        undoing = elsewhere(lambda: impatient(lambda: take_back(reviewed, rita)))
        with pytest.raises(OperationalError, match="lock timeout"):
            undoing.result(timeout=30)
        # Another set of the same findings need not wait.
        elsewhere(lambda: freeze(reviewed, alice, "second")).result(timeout=30)
    take_back(reviewed, rita)
    fix_set.refresh_from_db()
    assert "rita took back the verdict confirm" in fix_set.stale_because


def test_it_is_refused_while_the_data_set_is_being_registered(
    reviewed, alice, elsewhere
) -> None:
    with transaction.atomic():
        Label.objects.filter(dataset=reviewed.dataset).update(index=None)
        going = elsewhere(lambda: freeze(reviewed, alice))
        with pytest.raises(Refused, match="being registered"):
            going.result(timeout=30)
    assert not FixSet.objects.exists()
