"""Every route of the API. What is below a data set is open to its members alone."""

from __future__ import annotations

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.routers import SimpleRouter

from reviewapp.api.analyses import AnalysesViewSet
from reviewapp.api.bulk import BulkVerdictsViewSet
from reviewapp.api.comparisons import ComparisonsViewSet
from reviewapp.api.confusions import ConfusionsViewSet
from reviewapp.api.datasets import (
    DatasetsViewSet,
    EventsViewSet,
    LabelsViewSet,
    RegistrationsViewSet,
)
from reviewapp.api.exports import ExportsViewSet
from reviewapp.api.findings import FindingsViewSet
from reviewapp.api.fixsets import FixSetsViewSet
from reviewapp.api.folds import FoldRunsViewSet
from reviewapp.api.imports import ImportsViewSet
from reviewapp.api.matrices import MatricesViewSet
from reviewapp.api.notices import DeliveriesViewSet, WebhooksViewSet
from reviewapp.api.people import MembersViewSet
from reviewapp.api.queue import QueueViewSet
from reviewapp.api.recipes import RecipesViewSet
from reviewapp.api.registry import ModelVersionsViewSet, RegisteredModelsViewSet
from reviewapp.api.reports import ReportsViewSet
from reviewapp.api.reviews import ReviewsViewSet
from reviewapp.api.scans import ScansViewSet, SchedulesViewSet
from reviewapp.api.team import KnownAnswersViewSet, TeamViewSet
from reviewapp.api.training import TrainingViewSet
from reviewapp.api.trends import TrendsViewSet

datasets = SimpleRouter(use_regex_path=False)
datasets.register("datasets", DatasetsViewSet, basename="api-dataset")

below = SimpleRouter(use_regex_path=False)
below.register("labels", LabelsViewSet, basename="api-label")
below.register("registrations", RegistrationsViewSet, basename="api-registration")
below.register("events", EventsViewSet, basename="api-event")
below.register("members", MembersViewSet, basename="api-member")
below.register("registered-models", RegisteredModelsViewSet, basename="api-model")
below.register("model-versions", ModelVersionsViewSet, basename="api-version")
below.register("scans", ScansViewSet, basename="api-scan")
below.register("matrices", MatricesViewSet, basename="api-matrix")
below.register("imports", ImportsViewSet, basename="api-import")
below.register("schedules", SchedulesViewSet, basename="api-schedule")
below.register("confusions", ConfusionsViewSet, basename="api-confusion")
below.register("trends", TrendsViewSet, basename="api-trends")
below.register("analyses", AnalysesViewSet, basename="api-analysis")
below.register("comparisons", ComparisonsViewSet, basename="api-comparison")
below.register("findings", FindingsViewSet, basename="api-finding")
below.register("queue", QueueViewSet, basename="api-queue")
below.register("bulk-verdicts", BulkVerdictsViewSet, basename="api-bulk")
below.register("reviews", ReviewsViewSet, basename="api-review")
below.register("fix-sets", FixSetsViewSet, basename="api-fixset")
below.register("recipes", RecipesViewSet, basename="api-recipe")
below.register("exports", ExportsViewSet, basename="api-export")
below.register("training", TrainingViewSet, basename="api-training")
below.register("out-of-fold", FoldRunsViewSet, basename="api-folds")
below.register("reports", ReportsViewSet, basename="api-report")
below.register("webhooks", WebhooksViewSet, basename="api-webhook")
below.register("deliveries", DeliveriesViewSet, basename="api-delivery")
below.register("team", TeamViewSet, basename="api-team")
below.register("known-answers", KnownAnswersViewSet, basename="api-known")

urlpatterns = [
    path(
        "schema/",
        SpectacularAPIView.as_view(permission_classes=[IsAuthenticated]),
        name="api-schema",
    ),
    *datasets.urls,
    path("datasets/<slug:slug>/", include(below.urls)),
]
