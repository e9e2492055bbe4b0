"""A small data set, a network to train on it, and a recipe."""

from __future__ import annotations

import pytest

from reviewapp.models import Dataset, ModelVersion, Recipe
from tests import schooling


@pytest.fixture
def version(data_root, model_root, staff) -> ModelVersion:
    return schooling.school(data_root, model_root, staff)


@pytest.fixture
def dataset(version) -> Dataset:
    return version.registered_model.dataset


@pytest.fixture
def recipe(dataset, staff) -> Recipe:
    return schooling.add_recipe(dataset, staff)


@pytest.fixture
def reference(version, recipe) -> ModelVersion:
    """What an undisturbed run makes."""
    return schooling.trained(schooling.start(version, recipe)).version


@pytest.fixture(autouse=True)
def nothing_is_sent(sent) -> None:
    """No broker: the tests call the tasks."""
