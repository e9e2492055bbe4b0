"""Models and their versions."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reviewapp.models import ModelVersion
from tests import factories
from tests.images import SIDE, write_linear_model

LIST = reverse("model-list", args=["animals"])
NEW = reverse("version-new", args=["animals"])


@pytest.fixture
def checkpoint(model_root):
    weights = np.zeros((3, SIDE * SIDE))
    return write_linear_model(
        model_root / "net.onnx", weights, np.zeros(3), ["cat", "dog", "fox"]
    )


def queries(client, address) -> int:
    with CaptureQueriesContext(connection) as found:
        assert client.get(address).status_code == 200
    return len(found)


def test_more_models_cost_no_more_queries(dataset, version, rita, client_of):
    client = client_of(rita)
    before = queries(client, LIST)
    for _ in range(29):
        model = factories.RegisteredModelFactory(dataset=dataset)
        factories.ModelVersionFactory(registered_model=model)
    # session, user, data set, role, models
    assert before == queries(client, LIST) == 5


def test_an_empty_list_says_what_to_do(dataset, lena, rita, client_of):
    assert NEW in client_of(lena).get(LIST).content.decode()
    assert "A lead of the data set" in client_of(rita).get(LIST).content.decode()


def test_a_lead_registers_a_version(dataset, checkpoint, lena, client_of):
    client = client_of(lena)
    sent = {"name": "net", "checkpoint": str(checkpoint), "note": "first try"}
    response = client.post(NEW, sent)
    version = ModelVersion.objects.get()
    address = reverse("model-detail", args=["animals", version.registered_model_id])
    assert response.url == address
    page = client.get(address).content.decode()
    assert "first try" in page
    assert version.digest in page
    assert "cat, dog, fox" in page


def test_a_reviewer_may_not_and_a_stranger_sees_nothing(
    dataset, checkpoint, rita, charlie, client_of
):
    sent = {"name": "net", "checkpoint": str(checkpoint)}
    assert client_of(rita).post(NEW, sent).status_code == 403
    assert client_of(charlie).post(NEW, sent).status_code == 404
    assert client_of(charlie).get(LIST).status_code == 404
    assert not ModelVersion.objects.exists()


def test_a_missing_spec_keeps_the_input(dataset, model_root, lena, client_of):
    lonely = model_root / "lonely.onnx"
    lonely.write_bytes(b"weights")
    sent = {"name": "net", "checkpoint": str(lonely), "note": "kept"}
    html = client_of(lena).post(NEW, sent).content.decode()
    assert "lonely.onnx.json" in html
    assert f'value="{lonely}"' in html
    assert "kept" in html
    assert not ModelVersion.objects.exists()


def test_other_classes_are_shown_side_by_side(dataset, model_root, lena, client_of):
    weights = np.zeros((2, SIDE * SIDE))
    other = write_linear_model(
        model_root / "two.onnx", weights, np.zeros(2), ["cat", "dog"]
    )
    sent = {"name": "net", "checkpoint": str(other)}
    html = client_of(lena).post(NEW, sent).content.decode()
    assert "model (2): cat, dog" in html
    assert "data set (3): cat, dog, fox" in html


def test_a_checkpoint_outside_of_the_roots_is_refused(dataset, lena, client_of):
    sent = {"name": "net", "checkpoint": "/etc/passwd"}
    html = client_of(lena).post(NEW, sent).content.decode()
    assert "HARDMINE_MODEL_ROOTS" in html


def test_a_model_shows_each_version_with_its_scans(
    world, registered_model, rita, client_of
):
    client = client_of(rita)
    address = reverse("model-detail", args=["animals", registered_model.pk])
    page = client.get(address).content.decode()
    assert "70.0 %" in page
    before = queries(client, address)
    for _ in range(29):
        version = factories.ModelVersionFactory(registered_model=registered_model)
        factories.ScanFactory(model_version=version, correct=1, errors=1)
    # session, user, data set, model, scans, versions, role
    assert before == queries(client, address) == 7
    assert client.get(address).content.decode().count("50.0 %") == 29


def test_a_model_of_another_data_set_is_not_there(dataset, rita, client_of):
    foreign = factories.RegisteredModelFactory()
    address = reverse("model-detail", args=["animals", foreign.pk])
    assert client_of(rita).get(address).status_code == 404
