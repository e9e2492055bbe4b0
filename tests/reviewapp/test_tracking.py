"""What an MLflow server is told of a training, and that it is never needed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reviewapp.models import TrainingRun
from reviewapp.tracking import track
from tests import factories

BEGUN = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
ENDED = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)


class Server:
    """Answers as MLflow's REST API does, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict]] = []
        self.authorizations: set[str | None] = set()
        self.has_experiment = False
        self.is_broken = False

    def answer(self, path: str, body: dict) -> tuple[int, dict]:
        path = path.removeprefix("/api/2.0/mlflow/")
        self.asked.append((path, body))
        if self.is_broken:
            return 500, {}
        if path == "experiments/create" and self.has_experiment:
            return 400, {"error_code": "RESOURCE_ALREADY_EXISTS"}
        return 200, {
            "experiment_id": "7",
            "experiment": {"experiment_id": "7"},
            "run": {"info": {"run_id": "abc"}},
        }

    def bodies(self, path: str) -> list[dict]:
        return [body for asked, body in self.asked if asked == path]


@pytest.fixture
def server(settings) -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            server.authorizations.add(self.headers["Authorization"])
            code, answer = server.answer(self.path, body)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST  # noqa: N815 (its name in http.server)

        def log_message(self, *args) -> None:
            """Say nothing."""

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=web.serve_forever, args=(0.01,))
    thread.start()
    settings.MLFLOW_TRACKING_URI = f"http://127.0.0.1:{web.server_port}/"
    yield server
    web.shutdown()
    web.server_close()
    thread.join()


@pytest.fixture
def run(version) -> TrainingRun:
    version.lineage = {"run": 1, "parent": "aa" * 32, "settings": {"epochs": 400}}
    epochs = [
        {
            "epoch": n,
            "train_loss": 1 / n,
            "val_loss": 2 / n,
            "val_accuracy": None,
            "seconds": 1.0,
        }
        for n in range(1, 401)
    ]
    return factories.TrainingRunFactory(
        parent=version,
        version=version,
        state="done",
        epochs=epochs,
        outcome={"best_epoch": 399, "samples": 31, "val_samples": 12},
        started_at=BEGUN,
        finished_at=ENDED,
    )


def test_a_server_gets_settings_curves_and_lineage(server, run):
    assert track(run)
    (made,) = server.bodies("runs/create")
    assert made["experiment_id"] == "7"
    assert made["run_name"] == f"resnet v1 (training run {run.pk})"
    assert made["start_time"] == BEGUN.timestamp() * 1000
    tags = {tag["key"]: tag["value"] for tag in made["tags"]}
    assert (tags["parent"], tags["version"]) == ("aa" * 32, "resnet v1")
    assert tags["settings"] == '{"epochs": 400}'
    params, *batches = server.bodies("runs/log-batch")
    assert {"key": "best_epoch", "value": "399"} in params["params"]
    assert {"key": "loss", "value": "cross_entropy"} in params["params"]
    assert [len(batch["metrics"]) for batch in batches] == [500, 300]
    assert batches[0]["metrics"][3] == {
        "key": "val_loss",
        "value": 1.0,
        "timestamp": ENDED.timestamp() * 1000,
        "step": 2,
    }
    (ended,) = server.bodies("runs/update")
    assert (ended["run_id"], ended["status"]) == ("abc", "FINISHED")
    assert server.authorizations == {None}


def test_an_experiment_that_is_there_is_taken(server, run):
    server.has_experiment = True
    assert track(run)
    path = "experiments/get-by-name?experiment_name=hardmine/animals"
    assert path in [asked for asked, _ in server.asked]


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        (
            {"MLFLOW_TRACKING_USERNAME": "ann", "MLFLOW_TRACKING_PASSWORD": "secret"},
            "Basic YW5uOnNlY3JldA==",
        ),
    ],
)
def test_it_signs_in_as_it_is_told(server, run, settings, given, header):
    for name, value in given.items():
        setattr(settings, name, value)
    assert track(run)
    assert server.authorizations == {header}


def test_a_server_that_fails_changes_nothing(server, run, settings, caplog):
    server.is_broken = True
    assert not track(run)
    assert "MLflow was not told of training run" in caplog.text
    for address in ("http://127.0.0.1:1", "file:///tmp/mlruns"):
        settings.MLFLOW_TRACKING_URI = address
        assert not track(run)
    assert "must begin with http://" in caplog.text


def test_a_server_that_is_no_mlflow_changes_nothing(server, run, caplog):
    server.answer = lambda *_: (200, [])
    assert not track(run)
    assert "MLflow was not told of training run" in caplog.text


def test_without_a_server_nothing_is_asked(run, settings):
    assert settings.MLFLOW_TRACKING_URI == ""
    assert not track(run)
