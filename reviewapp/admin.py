"""Administration for staff: accounts, memberships and schedules; the rest to look at.

What an action refuses becomes the refusal's page; the admin's transaction keeps all else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from reviewapp.actions.people import remove_member, set_role
from reviewapp.actions.schedules import schedule_scan, unschedule
from reviewapp.forms.people import StaffSignInForm
from reviewapp.models import (
    Dataset,
    Event,
    Export,
    FixSet,
    Import,
    Membership,
    ModelVersion,
    RegisteredModel,
    Registration,
    Review,
    Role,
    Scan,
    Schedule,
    User,
)

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
    Accounts = UserAdmin[User]
else:  # Django's classes take no parameter at run time
    Base = admin.ModelAdmin
    Accounts = UserAdmin

NO_DELETION = (
    "An account is never deleted: its name stands under verdicts and events, and data "
    "sets could lose their only admin. Switch off “Active” instead."
)

admin.site.site_header = "Hardmine administration"
admin.site.site_title = "Hardmine"
admin.site.login_form = StaffSignInForm


class ReadOnlyAdmin(Base):
    """Rows that only the flow itself writes, or that nobody may ever change."""

    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody."""
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Nobody; whoever may view sees every field as text."""
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Nobody."""
        return False


@admin.register(User)
class AccountAdmin(Accounts):
    """Accounts, which are switched off and never deleted.

    Their names stand under verdicts and events, and deleting one would take its
    memberships along without an event: a data set could lose its only admin.
    """

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Say on the page why there is no button to delete."""
        note = {"fields": (), "description": NO_DELETION}
        first, *others = super().get_fieldsets(request, obj)
        return [first, (None, note), *others] if obj else [first, *others]

    def has_delete_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        """Nobody."""
        return False


@admin.register(Membership)
class MembershipAdmin(Base):
    """Written through the actions, so that each change is an event."""

    list_display = ["user", "dataset", "role", "created_at"]
    list_filter = ["role"]
    search_fields = ["user__username", "dataset__name"]
    list_select_related = ["user", "dataset"]
    autocomplete_fields = ["user"]
    actions = None

    def get_readonly_fields(
        self, request: HttpRequest, obj: Membership | None = None
    ) -> list[str]:
        """Let only the role change: another person would be another membership."""
        return ["user", "dataset"] if obj else []

    def save_model(
        self, request: HttpRequest, obj: Membership, form: Any, change: object
    ) -> None:
        """Set the role; an only admin stays one."""
        obj.pk = set_role(
            dataset=obj.dataset, user=obj.user, role=Role(obj.role), by=_staff(request)
        ).pk

    def delete_model(self, request: HttpRequest, obj: Membership) -> None:
        """Take the person off; an only admin stays."""
        remove_member(membership=obj, by=_staff(request))


@admin.register(Schedule)
class ScheduleAdmin(Base):
    """Written through the actions, which keep the scheduler's entry in line."""

    list_display = ["dataset", "registered_model", "split", "cron", "enabled"]
    list_select_related = ["dataset", "registered_model"]
    actions = None

    def get_readonly_fields(
        self, request: HttpRequest, obj: Schedule | None = None
    ) -> list[str]:
        """Fix what a schedule is about once it exists."""
        about = ["dataset", "registered_model", "split"] if obj else []
        return [*about, "last_message"]

    def save_model(
        self, request: HttpRequest, obj: Schedule, form: Any, change: object
    ) -> None:
        """Save the schedule and the scheduler's entry together."""
        obj.pk = schedule_scan(
            dataset=obj.dataset,
            model=obj.registered_model,
            split=obj.split,
            cron=obj.cron,
            enabled=obj.enabled,
            by=_staff(request),
        ).pk

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Remove the schedule and the scheduler's entry together."""
        unschedule(schedule=obj, by=_staff(request))


@admin.register(Dataset)
class DatasetAdmin(ReadOnlyAdmin):
    """Data sets are registered on their page, where the reading is queued too."""

    list_display = ["name", "root", "images", "classes", "created_at"]
    search_fields = ["name"]
    fields = [
        "name",
        "slug",
        "root",
        "manifest",
        "images",
        "classes",
        "created_by",
        "created_at",
    ]
    readonly_fields = ["images", "classes"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dataset]:
        """Count in the same query."""
        return Dataset.objects.with_size()

    def images(self, dataset: Any) -> int | None:
        """Return the images of the last registration."""
        count: int | None = dataset.images
        return count

    def classes(self, dataset: Any) -> int | None:
        """Return the current classes."""
        count: int | None = dataset.classes
        return count


@admin.register(Registration)
class RegistrationAdmin(ReadOnlyAdmin):
    """Readings of data sets."""

    list_display = ["id", "dataset", "state", "total", "created_at", "finished_at"]
    list_filter = ["state"]
    list_select_related = ["dataset"]


@admin.register(RegisteredModel)
class RegisteredModelAdmin(ReadOnlyAdmin):
    """Registered models."""

    list_display = ["name", "dataset", "created_at"]
    list_select_related = ["dataset"]


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnlyAdmin):
    """Model versions; a checkpoint is known by its digest."""

    list_display = ["registered_model", "number", "format", "digest", "created_at"]
    list_select_related = ["registered_model"]


@admin.register(Scan)
class ScanAdmin(ReadOnlyAdmin):
    """Scans."""

    list_display = ["id", "dataset", "model_version", "state", "samples", "created_at"]
    list_filter = ["state", "trigger"]
    list_select_related = ["dataset", "model_version__registered_model"]


@admin.register(Import)
class ImportAdmin(ReadOnlyAdmin):
    """Files of predictions, and what their check found."""

    list_display = ["id", "dataset", "model_name", "file_name", "state", "created_at"]
    list_filter = ["state", "format"]
    list_select_related = ["dataset"]


@admin.register(Review)
class ReviewAdmin(ReadOnlyAdmin):
    """Verdicts; what was undone stays."""

    list_display = ["id", "reviewer", "verdict", "finding_id", "created_at"]
    list_filter = ["verdict"]
    list_select_related = ["reviewer"]


@admin.register(FixSet)
class FixSetAdmin(ReadOnlyAdmin):
    """Frozen fix sets."""

    list_display = ["name", "dataset", "digest", "created_at"]
    list_select_related = ["dataset"]


@admin.register(Export)
class ExportAdmin(ReadOnlyAdmin):
    """Files made from fix sets."""

    list_display = ["id", "fix_set", "format", "state", "created_at"]
    list_filter = ["state"]
    list_select_related = ["fix_set"]


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """Who did what to what and when."""

    list_display = ["created_at", "actor", "action", "object_label", "dataset"]
    list_filter = ["action"]
    list_select_related = ["actor", "dataset"]


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 (the admin's pages need a sign-in)
    return request.user
