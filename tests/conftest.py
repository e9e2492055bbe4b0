"""The fixed cast of every test: Alice, Lena, Rita, and Charlie who must see nothing."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_django
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test import Client, TransactionTestCase
from fsspec.implementations.memory import MemoryFileSystem
from whitenoise.middleware import WhiteNoiseMiddleware

from reviewapp.models import (
    Dataset,
    Finding,
    Label,
    ModelVersion,
    RegisteredModel,
    Role,
    Scan,
    User,
)
from tests import factories
from tests.browsing import chromium, idle_contexts, sign_in
from tests.emptying import empty_database
from tests.migrated import migrated_database

__all__ = ["chromium", "idle_contexts", "sign_in"]

# Shared machines stall now and then; time is measured in tests/benchmarks.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

TransactionTestCase._fixture_teardown = empty_database

FLOWS = Path(__file__).parent / "flows"
STATIC_FILES: dict[str, Any] = {}
find_static_files = WhiteNoiseMiddleware.add_files_from_finders


def find_static_files_once(server: WhiteNoiseMiddleware) -> None:
    """Find what a server finds as it starts, and so would each test client anew."""
    if not STATIC_FILES:
        find_static_files(server)
        STATIC_FILES.update(server.files)
    server.files.update(STATIC_FILES)


WhiteNoiseMiddleware.add_files_from_finders = find_static_files_once


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long tests: one begun last is waited for.

    Those of real processes and browsers get a second try, which is reported: a machine
    that stands still for a while breaks them. No other test does.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("browser") or FLOWS in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: it stays until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # a twentieth of a test's time goes into looking


def pytest_unconfigure() -> None:
    """Let go of it at the end: libraries in C complain of what outlives them."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def migrated(django_db_blocker: pytest_django.DjangoDbBlocker) -> str:
    """Return the name of the database that the test databases are copies of."""
    with django_db_blocker.unblock():
        return migrated_database()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None, migrated: str
) -> None:
    connection.settings_dict["TEST"].update(TEMPLATE=migrated, MIGRATE=False)


@pytest.fixture(autouse=True)
def fresh_files() -> Iterator[Path]:
    """Give every test empty data, model and media folders, and an empty `memory://`."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    for name in ("data", "models", "media"):
        (settings.FILES / name).mkdir(parents=True, exist_ok=True)
    yield settings.FILES
    shutil.rmtree(settings.FILES, ignore_errors=True)


@pytest.fixture
def data_root(fresh_files: Path) -> Path:
    return fresh_files / "data"


@pytest.fixture
def model_root(fresh_files: Path) -> Path:
    return fresh_files / "models"


@pytest.fixture
def clean_cache() -> Iterator[None]:
    _forget_own()
    yield
    _forget_own()


@pytest.fixture
def dataset(db: None) -> Dataset:
    """Alice's data set with the classes cat, dog and fox."""
    dataset = factories.DatasetFactory(name="Animals", slug="animals")
    for index, name in enumerate(["cat", "dog", "fox"]):
        factories.LabelFactory(dataset=dataset, index=index, name=name)
    factories.RegistrationFactory(dataset=dataset)
    return dataset


@pytest.fixture
def labels(dataset: Dataset) -> list[Label]:
    return list(dataset.labels.current())


def _member(name: str, dataset: Dataset, role: Role) -> User:
    user = factories.UserFactory(username=name)
    factories.MembershipFactory(user=user, dataset=dataset, role=role)
    return user


@pytest.fixture
def alice(dataset: Dataset) -> User:
    """Admin of the data set."""
    return _member("alice", dataset, Role.ADMIN)


@pytest.fixture
def lena(dataset: Dataset) -> User:
    """Lead of the data set."""
    return _member("lena", dataset, Role.LEAD)


@pytest.fixture
def rita(dataset: Dataset) -> User:
    """Reviewer of the data set."""
    return _member("rita", dataset, Role.REVIEWER)


@pytest.fixture
def charlie(db: None) -> User:
    """Admin of another team's data set; must see nothing of Alice's."""
    other = factories.DatasetFactory(name="Other", slug="other")
    return _member("charlie", other, Role.ADMIN)


@pytest.fixture
def client_of() -> Callable[[User], Client]:
    """Return a signed-in client of a person."""

    def client_of(user: User) -> Client:
        client = Client()
        client.force_login(user, backend="reviewapp.sessions.People")
        return client

    return client_of


@pytest.fixture
def registered_model(dataset: Dataset) -> RegisteredModel:
    return factories.RegisteredModelFactory(dataset=dataset, name="resnet")


@pytest.fixture
def version(registered_model: RegisteredModel, labels: list[Label]) -> ModelVersion:
    return factories.ModelVersionFactory(registered_model=registered_model)


@dataclass
class World:
    """A finished scan with findings, ready for review."""

    dataset: Dataset
    labels: list[Label]
    model: RegisteredModel
    scan: Scan
    findings: list[Finding]

    def add_findings(
        self, n: int, *, true: int = 0, predicted: int = 1
    ) -> list[Finding]:
        """Add open findings of one confusion, the first one the hardest."""
        start = len(self.findings)
        made = []
        for i in range(n):
            finding = factories.FindingFactory(
                sample=factories.SampleFactory(label=self.labels[true]),
                predicted_label=self.labels[predicted],
                registered_model=self.model,
                priority=0.99 - 0.001 * (start + i),
            )
            factories.SightingFactory(finding=finding, scan=self.scan)
            made.append(finding)
        self.findings += made
        return made


@pytest.fixture
def world(
    dataset: Dataset,
    labels: list[Label],
    registered_model: RegisteredModel,
    version: ModelVersion,
) -> World:
    """Three findings cat -> dog of one finished scan of 10 samples."""
    scan = factories.ScanFactory(
        model_version=version, correct=7, errors=3, near_misses=0
    )
    for true, predicted, count in ((0, 0, 7), (0, 1, 3)):
        factories.ConfusionCountFactory(
            scan=scan,
            true_label=labels[true],
            predicted_label=labels[predicted],
            count=count,
        )
    factories.ConfusionFactory(
        registered_model=registered_model,
        true_label=labels[0],
        predicted_label=labels[1],
        first_scan=scan,
        last_scan=scan,
        present=3,
        peak=3,
    )
    world = World(dataset, labels, registered_model, scan, [])
    world.add_findings(3)
    return world


def _forget_own() -> None:
    """Empty this process's part of the cache; `clear` would empty the others', too."""
    client = cache._cache.get_client(None, write=True)
    if keys := list(client.scan_iter(f"{cache.key_prefix}:*")):
        client.delete(*keys)
