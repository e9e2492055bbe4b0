"""Registering models and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from mining.sources import resolve_under_roots
from mining.specs import check_classes, checkpoint_digest, read_spec
from reviewapp.exceptions import Refused
from reviewapp.models import Dataset, ModelVersion, RegisteredModel
from reviewapp.models.events import record

if TYPE_CHECKING:
    from reviewapp.models import FixSet, User


def register_version(
    *,
    dataset: Dataset,
    name: str,
    checkpoint: str,
    by: User | None,
    note: str = "",
    trained_on: FixSet | None = None,
    lineage: Mapping[str, Any] | None = None,
    digest: str = "",
) -> ModelVersion:
    """Register a checkpoint as the next version of a model, or return it if it is one.

    The checkpoint itself is not opened here, only hashed, unless the caller did that and
    gives its digest; the spec beside it is read and its classes are compared with the
    data set's.

    Raises:
        OutsideRoot: The checkpoint is not under a configured root.
        BadCheckpoint: The file or the spec beside it cannot be used.
        ClassMismatch: The classes are not the data set's, both lists shown.
        Refused: The name is empty.
    """
    name = name.strip()
    if not name:
        raise Refused("Give the model a name.")
    url = resolve_under_roots(
        checkpoint, settings.MODEL_ROOTS, setting="HARDMINE_MODEL_ROOTS"
    )
    spec = read_spec(url)
    check_classes(spec.classes, dataset.class_names())
    digest = digest or checkpoint_digest(url)
    with transaction.atomic():
        # The row lock makes two registrations take two numbers.
        Dataset.objects.select_for_update().get(pk=dataset.pk)
        model, _ = RegisteredModel.objects.get_or_create(dataset=dataset, name=name)
        if known := model.versions.filter(digest=digest).first():
            return known
        last = model.versions.aggregate(last=Max("number"))["last"] or 0
        version = ModelVersion.objects.create(
            registered_model=model,
            number=last + 1,
            checkpoint=url,
            digest=digest,
            format=spec.format,
            architecture=spec.architecture,
            classes=list(spec.classes),
            preprocessing=spec.preprocessing.to_dict(),
            note=note,
            trained_on=trained_on,
            lineage=dict(lineage or {}),
            created_by=by,
        )
        record("model version registered", version, dataset=dataset, actor=by)
        return version
