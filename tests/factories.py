"""One factory per model; derived columns come from the code that production uses."""

from __future__ import annotations

import hashlib

import factory
from django.utils import timezone
from django.utils.text import slugify

from mining.training.settings import TrainSettings
from mining.types import ScanSettings
from reviewapp import models


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.User
        skip_postgeneration_save = True

    username = factory.Sequence(lambda n: f"user{n}")
    password = factory.django.Password("correct horse battery")


class DatasetFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Dataset

    name = factory.Sequence(lambda n: f"Cells {n}")
    slug = factory.LazyAttribute(lambda o: slugify(o.name))
    root = "memory://data/cells"


class MembershipFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Membership

    user = factory.SubFactory(UserFactory)
    dataset = factory.SubFactory(DatasetFactory)
    role = models.Role.REVIEWER


class LabelFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Label

    dataset = factory.SubFactory(DatasetFactory)
    index = factory.LazyAttribute(lambda o: o.dataset.labels.count())
    name = factory.LazyAttribute(lambda o: f"class {o.index}")


class SampleFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Sample

    label = factory.SubFactory(LabelFactory)
    dataset = factory.LazyAttribute(lambda o: o.label.dataset)
    original_label = factory.LazyAttribute(lambda o: o.label)
    key = factory.Sequence(lambda n: f"test/{n:06d}.png")
    digest = factory.LazyAttribute(lambda o: hashlib.sha256(o.key.encode()).hexdigest())
    split = "test"
    size = 1000


class RegistrationFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Registration

    dataset = factory.SubFactory(DatasetFactory)
    state = models.Registration.State.DONE


class RegisteredModelFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.RegisteredModel

    dataset = factory.SubFactory(DatasetFactory)
    name = factory.Sequence(lambda n: f"model {n}")


class ModelVersionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.ModelVersion

    registered_model = factory.SubFactory(RegisteredModelFactory)
    number = factory.LazyAttribute(lambda o: o.registered_model.versions.count() + 1)
    checkpoint = factory.LazyAttribute(lambda o: f"memory://models/{o.number}.onnx")
    digest = factory.LazyAttribute(
        lambda o: hashlib.sha256(o.checkpoint.encode()).hexdigest()
    )
    format = "onnx"
    classes = factory.LazyAttribute(lambda o: o.registered_model.dataset.class_names())
    preprocessing = factory.LazyFunction(
        lambda: {"resize": None, "crop": 8, "mean": [0.5], "std": [0.5], "mode": "L"}
    )


class ScanFactory(factory.django.DjangoModelFactory):
    """A finished scan without samples, unless told otherwise."""

    class Meta:
        model = models.Scan

    model_version = factory.SubFactory(ModelVersionFactory)
    dataset = factory.LazyAttribute(lambda o: o.model_version.registered_model.dataset)
    split = "test"
    state = models.Scan.State.DONE
    trigger = models.Scan.Trigger.PAGE
    settings = factory.LazyFunction(lambda: ScanSettings().to_dict())
    classes = factory.LazyAttribute(
        lambda o: list(o.dataset.labels.current().values_list("id", flat=True))
    )
    samples = factory.LazyAttribute(lambda o: o.correct + o.errors + o.unreadable)
    correct = 0
    errors = 0
    near_misses = 0
    unreadable = 0


class ShardFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Shard

    scan = factory.SubFactory(ScanFactory)
    number = factory.LazyAttribute(lambda o: o.scan.shards.count())
    first_sample = 1
    last_sample = 1
    samples = 1


class ConfusionCountFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.ConfusionCount

    scan = factory.SubFactory(ScanFactory)
    count = 1


class FindingFactory(factory.django.DjangoModelFactory):
    """An open error; give `sample`, `predicted_label` and `registered_model`."""

    class Meta:
        model = models.Finding

    dataset = factory.LazyAttribute(lambda o: o.sample.dataset)
    true_label = factory.LazyAttribute(lambda o: o.sample.label)
    digest = factory.LazyAttribute(lambda o: o.sample.digest)
    kind = factory.LazyAttribute(
        lambda o: "near_miss" if o.true_label == o.predicted_label else "misclassified"
    )
    priority = 0.9
    confidence = 0.8


class SightingFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Sighting

    finding = factory.SubFactory(FindingFactory)
    scan = factory.SubFactory(ScanFactory)
    confidence = factory.LazyAttribute(lambda o: o.finding.confidence)
    p_true = factory.LazyAttribute(lambda o: o.finding.p_true)
    margin = 0.7
    loss = 2.3
    top_labels = factory.LazyAttribute(
        lambda o: [o.finding.predicted_label_id, o.finding.true_label_id]
    )
    top_probs = factory.LazyAttribute(
        lambda o: [o.finding.confidence, o.finding.p_true]
    )


class ConfusionFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Confusion

    registered_model = factory.SubFactory(RegisteredModelFactory)
    dataset = factory.LazyAttribute(lambda o: o.registered_model.dataset)
    present = 1
    peak = 1


class ImportFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Import

    dataset = factory.SubFactory(DatasetFactory)
    model_name = "resnet"
    format = "csv"
    file_name = "predictions.csv"


class ScheduleFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Schedule

    registered_model = factory.SubFactory(RegisteredModelFactory)
    dataset = factory.LazyAttribute(lambda o: o.registered_model.dataset)
    split = "test"
    cron = "0 2 * * *"


class RankerFactory(factory.django.DjangoModelFactory):
    """An order learned from 350 verdicts, better than the plain one."""

    class Meta:
        model = models.Ranker

    registered_model = factory.SubFactory(RegisteredModelFactory)
    weights = factory.LazyFunction(dict)
    verdicts = 350
    learned = 0.81
    plain = 0.74
    is_used = True
    fitted_at = factory.LazyFunction(timezone.now)


class ExemplarFactory(factory.django.DjangoModelFactory):
    """The surest right sample of its label; give `sample`, `scan`."""

    class Meta:
        model = models.Exemplar

    registered_model = factory.LazyAttribute(
        lambda o: o.scan.model_version.registered_model
    )
    label = factory.LazyAttribute(lambda o: o.sample.label)
    digest = factory.LazyAttribute(lambda o: o.sample.digest)
    confidence = 0.99
    place = 0


class WebhookFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.Webhook

    dataset = factory.SubFactory(DatasetFactory)
    name = factory.Sequence(lambda n: f"chat {n}")
    url = "https://hooks.example/in"
    events = factory.LazyFunction(lambda: ["scan.finished"])
    salt = factory.Sequence(lambda n: f"{n:032x}")


class DeliveryFactory(factory.django.DjangoModelFactory):
    """A notice on its way to a webhook."""

    class Meta:
        model = models.Delivery

    webhook = factory.SubFactory(WebhookFactory)
    notice = factory.LazyAttribute(
        lambda o: models.Notice.objects.create(
            dataset=o.webhook.dataset,
            kind=models.NoticeKind.SCAN,
            title="Scan 1 of resnet v1 is done: 3 errors in 10 samples",
            path="/",
        )
    )


class TrainingRunFactory(factory.django.DjangoModelFactory):
    """A waiting retraining of a version, without a recipe."""

    class Meta:
        model = models.TrainingRun

    parent = factory.SubFactory(ModelVersionFactory)
    dataset = factory.LazyAttribute(lambda o: o.parent.registered_model.dataset)
    settings = factory.LazyFunction(lambda: TrainSettings().to_dict())
    requested_at = factory.LazyFunction(timezone.now)


class ReportFactory(factory.django.DjangoModelFactory):
    """A waiting report of a training run."""

    class Meta:
        model = models.Report

    run = factory.SubFactory(TrainingRunFactory)
    requested_at = factory.LazyFunction(timezone.now)


class FoldRunFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = models.FoldRun

    parent = factory.SubFactory(ModelVersionFactory)
    dataset = factory.LazyAttribute(lambda o: o.parent.registered_model.dataset)
    folds = 5
    settings = factory.LazyFunction(lambda: TrainSettings(start="scratch").to_dict())
    requested_at = factory.LazyFunction(timezone.now)
