"""What a training came to, told to an MLflow server when one is configured.

By its REST API, which needs no library. A server that does not answer changes nothing.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from django.conf import settings

from reviewapp.models import TrainingRun

logger = logging.getLogger(__name__)

SECONDS: Final = 10.0  # for each answer
BATCH: Final = 500  # metrics in one request; MLflow takes 1,000
CURVES: Final = ("train_loss", "val_loss", "val_accuracy")


def track(run: TrainingRun) -> bool:
    """Log the settings, the curves and the lineage of a run that is done.

    Returns:
        Whether a server took them.
    """
    if not settings.MLFLOW_TRACKING_URI:
        return False
    try:
        _log(run)
    except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
        logger.warning("MLflow was not told of %s: %s", run, error)
        return False
    return True


def _log(run: TrainingRun) -> None:
    version = run.version
    if version is None or run.finished_at is None or run.started_at is None:
        raise ValueError("it is not done")
    ended = int(run.finished_at.timestamp() * 1000)
    made = _post(
        "runs/create",
        experiment_id=_experiment(f"hardmine/{run.dataset.slug}"),
        run_name=f"{version} (training run {run.pk})",
        start_time=int(run.started_at.timestamp() * 1000),
        tags=_pairs(version.lineage | {"version": str(version)}),
    )
    run_id = made["run"]["info"]["run_id"]
    facts = run.settings | {
        name: run.outcome[name] for name in ("best_epoch", "samples", "val_samples")
    }
    _post("runs/log-batch", run_id=run_id, params=_pairs(facts))
    for metrics in _metrics(run, ended):
        _post("runs/log-batch", run_id=run_id, metrics=metrics)
    _post("runs/update", run_id=run_id, status="FINISHED", end_time=ended)


def _experiment(name: str) -> str:
    try:
        made = _post("experiments/create", name=name)
        return str(made["experiment_id"])
    except HTTPError as error:
        if error.code != 400:  # 400: it is there already
            raise
    found = _ask(f"experiments/get-by-name?experiment_name={name}")
    return str(found["experiment"]["experiment_id"])


def _pairs(data: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"key": name, "value": value if isinstance(value, str) else json.dumps(value)}
        for name, value in data.items()
    ]


def _metrics(run: TrainingRun, moment: int) -> Iterator[list[dict[str, Any]]]:
    points = [
        {"key": name, "value": epoch[name], "timestamp": moment, "step": epoch["epoch"]}
        for epoch in run.epochs
        for name in CURVES
        if epoch[name] is not None
    ]
    for first in range(0, len(points), BATCH):
        yield points[first : first + BATCH]


def _post(path: str, **body: Any) -> dict[str, Any]:
    return _ask(path, json.dumps(body).encode())


def _ask(path: str, body: bytes | None = None) -> dict[str, Any]:
    """Return the answer to a GET, or to a POST of a body.

    Raises:
        OSError: The server cannot be reached or refuses.
        ValueError: The address is no web address, or the answer no JSON.
    """
    address = settings.MLFLOW_TRACKING_URI.rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise ValueError("MLFLOW_TRACKING_URI must begin with http:// or https://")
    headers = {"Content-Type": "application/json", **_authorization()}
    request = Request(f"{address}/api/2.0/mlflow/{path}", body, headers)  # noqa: S310 (checked above)
    with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 (an admin's address)
        found: dict[str, Any] = json.loads(answer.read())
        return found


def _authorization() -> dict[str, str]:
    if settings.MLFLOW_TRACKING_TOKEN:
        return {"Authorization": f"Bearer {settings.MLFLOW_TRACKING_TOKEN}"}
    if settings.MLFLOW_TRACKING_USERNAME:
        name, word = (
            settings.MLFLOW_TRACKING_USERNAME,
            settings.MLFLOW_TRACKING_PASSWORD,
        )
        pair = base64.b64encode(f"{name}:{word}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}
