"""Every URL, found by walking the resolver: nobody sees another team's data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from reviewapp.actions.comparisons import start_comparison
from reviewapp.actions.exports import request_export, run_export
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.known import add_known_answer
from reviewapp.actions.recipes import run_recipe
from reviewapp.models import (
    Confusion,
    Exemplar,
    Finding,
    Membership,
    Registration,
    Review,
    UnreadableSample,
    User,
    Verdict,
)
from reviewapp.thumbnails import thumbnail_name
from tests import factories
from tests.conftest import World
from tests.reviewing import decide

ClientOf = Callable[[User], Client]
PUBLIC = {"health": 200, "sign-in": 200, "sign-out": 405}  # to whom is not signed in
METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True, slots=True)
class Route:
    """One pattern of the resolver, as text with its kwargs' names."""

    template: str  # e.g. "datasets/{slug}/scans/{scan_id}/"
    kwargs: tuple[str, ...]
    name: str

    @property
    def is_api(self) -> bool:
        return self.template.startswith("api/")

    @property
    def is_below_a_data_set(self) -> bool:
        return "slug" in self.kwargs


def walk(resolver: URLResolver, before: str = "") -> Iterator[Route]:
    for entry in resolver.url_patterns:
        route = before + str(entry.pattern)
        if route.startswith(("admin/", "static/")):
            continue
        if isinstance(entry, URLResolver):
            yield from walk(entry, route)
        else:
            yield as_route(entry, route)


def as_route(entry: URLPattern, route: str) -> Route:
    kwargs = []
    for part in route.split("<")[1:]:
        spec = part.partition(">")[0]
        kwargs.append(spec.rpartition(":")[2])
        route = route.replace(f"<{spec}>", f"{{{kwargs[-1]}}}")
    return Route(route, tuple(kwargs), entry.name or "")


ROUTES = list(walk(get_resolver()))
BELOW = [route for route in ROUTES if route.is_below_a_data_set]
OUTSIDE = [route for route in ROUTES if not route.is_below_a_data_set]


@pytest.fixture
def url_of(world: World, alice: User) -> Callable[[Route], str]:
    """Return the URL of a route with the objects of Alice's data set.

    A kwarg that is not named here fails the test: name it, with an object of hers.
    """
    third = world.findings[2]
    review = decide(finding=third, by=alice, verdict=Verdict.CONFIRM, version=0)
    batch = uuid4()
    Review.objects.filter(pk=review.pk).update(batch=batch, key=batch)
    fix_set = freeze_fix_set(
        dataset=world.dataset,
        name="hers alone",
        findings=Finding.objects.all(),
        by=alice,
    )
    recipe = run_recipe(recipe=fix_set.recipes.get())
    export = run_export(export=request_export(fix_set=fix_set, format="csv", by=alice))
    finding = world.findings[0]
    default_storage.save(thumbnail_name(finding.digest, "grid"), ContentFile(b"webp"))
    world.scan.artefact = default_storage.save("outcomes", ContentFile(b"parquet"))
    world.scan.save()
    factories.ShardFactory(scan=world.scan, number=0)
    later = factories.ScanFactory(model_version=world.scan.model_version)
    comparison = start_comparison(baseline=world.scan, candidate=later, by=alice)
    UnreadableSample.objects.create(
        scan=world.scan, sample=finding.sample, reason="cut", digest=finding.digest
    )
    exemplar = Exemplar.objects.create(
        registered_model=world.model,
        label=finding.true_label,
        sample=finding.sample,
        scan=world.scan,
        digest=finding.digest,
        confidence=1.0,
        place=0,
    )
    delivery = factories.DeliveryFactory(webhook__dataset=world.dataset)
    run = factories.TrainingRunFactory(parent=world.scan.model_version)
    factories.ReportFactory(run=run)
    values = {
        "slug": world.dataset.slug,
        "registration_id": Registration.objects.get(dataset=world.dataset).pk,
        "member_id": Membership.objects.get(user=alice).pk,
        "model_id": world.model.pk,
        "version_id": world.scan.model_version_id,
        "scan_id": world.scan.pk,
        "part": 1,
        "baseline_id": world.scan.pk,
        "candidate_id": later.pk,
        "comparison_id": comparison.pk,
        "sample_id": finding.sample_id,
        "import_id": factories.ImportFactory(dataset=world.dataset).pk,
        "schedule_id": factories.ScheduleFactory(registered_model=world.model).pk,
        "confusion_id": Confusion.objects.get().pk,
        "finding_id": finding.pk,
        "digest": finding.digest,
        "size": "grid",
        "exemplar_id": exemplar.pk,
        "review_id": review.pk,
        "known_id": add_known_answer(finding=third, by=alice).pk,
        "batch": batch,
        "webhook_id": delivery.webhook_id,
        "delivery_id": delivery.pk,
        "fix_set_id": fix_set.pk,
        "recipe_id": recipe.pk,
        "run_id": run.pk,
        "fold_run_id": factories.FoldRunFactory(parent=world.scan.model_version).pk,
        "export_id": export.pk,
    }
    return lambda route: "/" + route.template.format(**values)


def status(client: Client, method: str, url: str) -> int:
    response = getattr(client, method)(url)
    if response.streaming:
        b"".join(response)  # to its end, where the file is closed
    return response.status_code


def test_the_walk_finds_pages_and_api() -> None:
    assert {"scan-detail", "export-download", "api-finding-decide"} <= {
        route.name for route in BELOW
    }
    assert {"dashboard", "sign-in", "api-dataset-list", "api-schema"} <= {
        route.name for route in OUTSIDE
    }


def test_who_is_not_signed_in_sees_nothing(
    url_of: Callable[[Route], str], client: Client, clean_cache: None
) -> None:
    for route in ROUTES:
        url = url_of(route)
        if route.name in PUBLIC:
            assert status(client, "get", url) == PUBLIC[route.name]
            continue
        for method in METHODS:
            response = getattr(client, method)(url)
            if route.is_api:
                assert response.status_code == 401, (method, url)
            else:
                assert response.status_code == 302, (method, url)
                assert response.headers["Location"].startswith("/sign-in/")


def test_another_team_gets_404_whatever_it_tries(
    url_of: Callable[[Route], str], alice: User, charlie: User, client_of: ClientOf
) -> None:
    hers, his = client_of(alice), client_of(charlie)
    for route in BELOW:
        url = url_of(route)
        for method in METHODS:
            got = status(his, method, url)
            if got == 405:
                # Told by the method alone, before any data set was looked at.
                assert status(hers, method, url) == 405, (method, url)
            else:
                assert got == 404, (method, url)


def test_ones_own_slug_does_not_open_another_teams_object(
    url_of: Callable[[Route], str], charlie: User, client_of: ClientOf
) -> None:
    client = client_of(charlie)
    for route in BELOW:
        if route.kwargs == ("slug",):
            continue
        url = url_of(route).replace("/animals/", "/other/")
        for method in METHODS:
            assert status(client, method, url) in (404, 405), (method, url)


def test_alice_gets_what_charlie_is_refused(
    url_of: Callable[[Route], str], alice: User, client_of: ClientOf
) -> None:
    """Without this, a route that is 404 for everybody would pass the tests above."""
    client = client_of(alice)
    for route in BELOW:
        url = url_of(route)
        assert status(client, "get", url) in (200, 302, 405), url


def test_pages_above_the_data_sets_show_none_of_alices(
    url_of: Callable[[Route], str],
    charlie: User,
    client_of: ClientOf,
    clean_cache: None,
) -> None:
    client = client_of(charlie)
    for route in OUTSIDE:
        response = client.get(url_of(route))
        for secret in (b"Animals", b"animals", b"alice", b"resnet", b"hers alone"):
            assert secret not in response.content, route.template
