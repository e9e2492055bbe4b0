"""What every command shares: one-line refusals, and looking things up by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from mining.exceptions import MiningError
from reviewapp.exceptions import HardmineError
from reviewapp.models import Dataset, FixSet, RegisteredModel, User

INTERRUPTED = 130  # as shells report Ctrl-C


class DomainCommand(BaseCommand):
    """A command whose refusals are a line for people, not a traceback."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Call `run` with the options."""
        try:
            self.run(*args, **options)
        except (HardmineError, MiningError) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt as error:
            raise CommandError(
                "Stopped. What was done is kept; the same command goes on from there.",
                returncode=INTERRUPTED,
            ) from error

    def run(self, *args: Any, **options: Any) -> None:
        """Do what the command is for."""
        raise NotImplementedError


def find_dataset(name: str) -> Dataset:
    """Return the data set with this slug or name.

    Raises:
        CommandError: There is none; the message lists those there are.
    """
    dataset = Dataset.objects.filter(Q(slug=name) | Q(name=name)).first()
    if dataset is None:
        slugs = Dataset.objects.by_name().values_list("slug", flat=True)
        raise _unknown("data set", name, slugs)
    return dataset


def find_model(dataset: Dataset, name: str) -> RegisteredModel:
    """Return the data set's model of this name.

    Raises:
        CommandError: There is none; the message lists those there are.
    """
    model = dataset.registered_models.filter(name=name).first()
    if model is None:
        names = dataset.registered_models.values_list("name", flat=True)
        raise _unknown(f"model of {dataset}", name, names)
    return model


def find_fix_set(dataset: Dataset, name: str) -> FixSet:
    """Return the data set's fix set of this name.

    Raises:
        CommandError: There is none; the message lists those there are.
    """
    fix_set = dataset.fix_sets.filter(name=name).first()
    if fix_set is None:
        names = dataset.fix_sets.newest_first().values_list("name", flat=True)
        raise _unknown(f"fix set of {dataset}", name, names)
    return fix_set


def find_user(name: str) -> User:
    """Return the person with this user name.

    Raises:
        CommandError: There is none.
    """
    user = User.objects.filter(username=name).first()
    if user is None:
        raise CommandError(
            f"There is no account {name!r}. Make it with: manage.py createsuperuser, or "
            "in the admin pages."
        )
    return user


def _unknown(kind: str, name: str, known: Iterable[str]) -> CommandError:
    listed = ", ".join(known) or "none yet"
    return CommandError(f"There is no {kind} called {name!r}. There are: {listed}.")
