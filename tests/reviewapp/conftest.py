"""A scan of four shards, what can go wrong with it, and a set frozen after review."""

from __future__ import annotations

import hashlib

import pytest

from mining.exceptions import ArtefactError
from reviewapp.actions.finishing import store_part
from reviewapp.actions.fixsets import freeze_fix_set
from reviewapp.actions.notices import add_webhook
from reviewapp.models import Finding, ModelVersion, NoticeKind, Verdict, Webhook
from tests import factories, scanning
from tests.faults import facts, run_all, start
from tests.images import write_animals, write_brightness_model, write_image
from tests.receivers import mail_server, receiving
from tests.reviewing import decide

WRONG = {("cat", "dog"): 3, ("fox", "cat"): 2}


@pytest.fixture
def staff(db):
    return factories.UserFactory(username="staff", is_staff=True)


@pytest.fixture
def net(data_root, model_root, staff) -> ModelVersion:
    write_animals(data_root / "animals", wrong=WRONG)
    dataset = scanning.register(data_root / "animals", staff)
    return scanning.add_version(dataset, write_brightness_model(model_root / "1.onnx"))


@pytest.fixture
def sent(monkeypatch) -> list[tuple[str, int]]:
    """Return what is sent to the broker, as (task, id), but for analyses."""
    found: list[tuple[str, int]] = []

    def send(task, pks, *, countdown=0):
        if task.name != "reviewapp.tasks.run_analysis":
            found.extend((task.name.rpartition(".")[2], pk) for pk in pks)

    monkeypatch.setattr("reviewapp.tasks._send", send)
    monkeypatch.setattr("reviewapp.tasks._messages", lambda queue: 0)
    return found


@pytest.fixture
def undisturbed(net) -> dict[str, object]:
    """Return what the same scan leaves when nothing goes wrong."""
    dataset = net.registered_model.dataset
    twin = factories.RegisteredModelFactory(dataset=dataset, name="twin")
    version = ModelVersion.objects.get(pk=net.pk)
    version.pk, version.registered_model = None, twin
    version.save()
    return facts(run_all(start(version)))


@pytest.fixture
def full_disk(monkeypatch) -> set[int]:
    """Return the numbers of the shards whose parts cannot be stored."""
    numbers = {1}

    def store(*, shard, outcomes):
        if shard.number in numbers:
            raise ArtefactError("the disk is full")
        store_part(shard=shard, outcomes=outcomes)

    monkeypatch.setattr("reviewapp.scanning.store_part", store)
    return numbers


@pytest.fixture
def receiver(settings):
    """A web server on loopback that webhooks are allowed to be sent to."""
    with receiving() as receiver:
        settings.WEBHOOK_HOSTS = [f"127.0.0.1:{receiver.port}"]
        settings.WEBHOOK_HTTP = True
        settings.WEBHOOK_SECONDS = 5
        settings.PUBLIC_URL = "https://hardmine.example"
        yield receiver


@pytest.fixture
def webhook(receiver, dataset, alice) -> Webhook:
    """One of Alice's data set, told of everything."""
    events = [kind for kind, _ in NoticeKind.chosen()]
    return add_webhook(
        dataset=dataset, name="chat", url=receiver.url(), events=events, by=alice
    )


@pytest.fixture
def mailbox(settings):
    """A mail server on loopback that the settings name."""
    with mail_server() as box:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
        settings.DEFAULT_FROM_EMAIL = "hardmine@example.org"
        settings.PUBLIC_URL = "https://hardmine.example"
        yield box


@pytest.fixture
def reviewed(world, rita, data_root):
    """One confirmed, one relabelled to fox, one dismissed, each with its image."""
    world.dataset.root = str(data_root)
    world.dataset.save()
    for i, finding in enumerate(world.findings):
        path = write_image(data_root / finding.sample.key, 60, seed=i)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        finding.digest = finding.sample.digest = digest
        finding.save()
        finding.sample.save()
    a, b, c = world.findings
    decide(finding=a, by=rita, verdict=Verdict.CONFIRM, version=0, causes=["pose"])
    decide(
        finding=b,
        by=rita,
        verdict=Verdict.RELABEL,
        new_label=world.labels[2],
        version=0,
    )
    decide(finding=c, by=rita, verdict=Verdict.DISMISS, version=0)
    return world


@pytest.fixture
def fix_set(reviewed, alice):
    return freeze_fix_set(
        dataset=reviewed.dataset, name="first", findings=Finding.objects.all(), by=alice
    )
