"""Every URL. Whatever lies below a data set is scoped to it by `access_dataset`."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from reviewapp.views import (
    confusions,
    dashboard,
    datasets,
    findings,
    fixsets,
    history,
    images,
    imports,
    people,
    registry,
    reviews,
    scans,
)

dataset_urls = [
    path("", dashboard.dataset, name="dataset-detail"),
    path("register/", datasets.register, name="dataset-register"),
    path(
        "registrations/<int:registration_id>/",
        datasets.registration,
        name="registration-detail",
    ),
    path("members/", people.members, name="member-list"),
    path("models/", registry.index, name="model-list"),
    path("models/new/", registry.new, name="version-new"),
    path("models/<int:model_id>/", registry.detail, name="model-detail"),
    path("scans/", scans.index, name="scan-list"),
    path("scans/new/", scans.new, name="scan-new"),
    path("scans/<int:scan_id>/", scans.detail, name="scan-detail"),
    path("scans/<int:scan_id>/cancel/", scans.cancel, name="scan-cancel"),
    path("scans/<int:scan_id>/resume/", scans.resume, name="scan-resume"),
    path("scans/<int:scan_id>/outcomes/", scans.outcomes, name="scan-outcomes"),
    path("scans/<int:scan_id>/parts/", scans.parts, name="scan-parts"),
    path("scans/<int:scan_id>/parts/<int:part>/", scans.part, name="scan-part"),
    path("scans/<int:scan_id>/unreadable/", scans.unreadable, name="scan-unreadable"),
    path(
        "scans/<int:scan_id>/unreadable/<int:sample_id>/<str:digest>-<str:size>.webp",
        images.unreadable,
        name="scan-image",
    ),
    path("imports/new/", imports.new, name="import-new"),
    path("imports/<int:import_id>/", imports.detail, name="import-detail"),
    path("imports/<int:import_id>/report/", imports.report, name="import-report"),
    path("schedules/", scans.schedules, name="schedule-list"),
    path("confusions/", confusions.index, name="confusion-list"),
    path("history/", history.index, name="history"),
    path("history/<int:confusion_id>/", history.detail, name="confusion-detail"),
    path("findings/", findings.index, name="finding-list"),
    path("findings/<int:finding_id>/", findings.detail, name="finding-detail"),
    path(
        "findings/<int:finding_id>/<str:digest>-<str:size>.webp",
        images.thumbnail,
        name="finding-image",
    ),
    path("review/", reviews.index, name="review"),
    path("review/next/", reviews.next_finding, name="review-next"),
    path("review/undo/", reviews.undo, name="review-undo"),
    path("review/release/", reviews.release, name="review-release"),
    path("review/<int:finding_id>/", reviews.finding, name="review-finding"),
    path("review/<int:finding_id>/decide/", reviews.decide, name="finding-decide"),
    path("review/<int:finding_id>/skip/", reviews.skip, name="finding-skip"),
    path("fixsets/", fixsets.index, name="fixset-list"),
    path("fixsets/new/", fixsets.new, name="fixset-new"),
    path("fixsets/<int:fix_set_id>/", fixsets.detail, name="fixset-detail"),
    path("fixsets/<int:fix_set_id>/exports/", fixsets.export, name="fixset-export"),
    path(
        "fixsets/<int:fix_set_id>/exports/<int:export_id>/",
        fixsets.download,
        name="export-download",
    ),
]

urlpatterns = [
    path("", dashboard.home, name="dashboard"),
    path("healthz/", dashboard.health, name="health"),
    path("sign-in/", people.sign_in, name="sign-in"),
    path("sign-out/", people.sign_out, name="sign-out"),
    path("account/", people.account, name="account"),
    path("datasets/", datasets.index, name="dataset-list"),
    path("datasets/new/", datasets.new, name="dataset-new"),
    path("datasets/<slug:slug>/", include(dataset_urls)),
    path("api/", include("reviewapp.api.urls")),
    path("admin/", admin.site.urls),
]
