"""The files of the deployment agree with the program and with each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.urls import resolve
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_docs import variables

ROOT = Path(settings.BASE_DIR)
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "hardmine"]
SCANNERS = ["gpu-worker", "scan-worker"]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!+-]+", x) for x in lines)
    return {canonicalize_name(n): v for n, v in (line.split("==") for line in lines)}


def test_compose_has_every_part() -> None:
    assert set(SERVICES) == {
        *("migrate", "web", "worker", "gpu-worker", "scan-worker", "beat"),
        *("postgres", "redis"),
    }


def test_every_queue_of_the_settings_has_a_worker() -> None:
    served = set(
        re.findall(r"-Q (\w+)", " ".join(SERVICES[n].get("command", "") for n in OURS))
    )
    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    assert served == routed | {settings.CELERY_TASK_DEFAULT_QUEUE}


@pytest.mark.parametrize("name", OURS)
def test_no_secret_has_a_default(name: str) -> None:
    environment = SERVICES[name]["environment"]
    for value in map(str, environment.values()):
        for variable, rest in re.findall(r"\$\{(\w+)([^}]*)\}", value):
            if re.search("PASSWORD|SECRET", variable):
                assert rest.startswith(":?")
    assert "${POSTGRES_PASSWORD:?" in environment["DATABASE_URL"]
    assert "${REDIS_PASSWORD:?" in environment["REDIS_URL"]
    assert environment["SECRET_KEY"].startswith("${SECRET_KEY:?")


@pytest.mark.parametrize("name", OURS)
def test_the_settings_read_what_compose_sets(name: str) -> None:
    set_for_libraries = {"OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"}
    assert set(SERVICES[name]["environment"]) - set_for_libraries <= variables()


@pytest.mark.parametrize("name", OURS)
def test_data_and_models_are_read_only(name: str) -> None:
    mounts = SERVICES[name]["volumes"]
    assert "files:/var/lib/hardmine" in mounts
    assert [
        m.rpartition(":")[0].rpartition(":")[2] for m in mounts if m.endswith(":ro")
    ] == [
        SERVICES[name]["environment"]["HARDMINE_DATA_ROOTS"],
        SERVICES[name]["environment"]["HARDMINE_MODEL_ROOTS"],
    ]


@pytest.mark.parametrize("name", [name for name in OURS if name != "migrate"])
def test_it_starts_after_the_database_is_up_to_date(name: str) -> None:
    needs = {n: need["condition"] for n, need in SERVICES[name]["depends_on"].items()}
    assert needs == {
        "migrate": "service_completed_successfully",
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }


def test_the_servers_keep_their_data_and_tell_their_health() -> None:
    for name in ("postgres", "redis"):
        service = SERVICES[name]
        assert service["healthcheck"]["test"]
        assert [m.partition(":")[0] for m in service["volumes"]] == [name]
        assert "ports" not in service
    assert set(COMPOSE["volumes"]) == {"files", "postgres", "redis"}


@pytest.mark.parametrize("name", SCANNERS)
def test_a_scan_worker_is_one_process(name: str) -> None:
    assert "--pool solo" in SERVICES[name]["command"]


def test_only_the_gpu_worker_reserves_gpus() -> None:
    reserving = [name for name, service in SERVICES.items() if "deploy" in service]
    assert reserving == ["gpu-worker"]
    (device,) = SERVICES["gpu-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]


def test_each_scan_worker_has_a_profile_of_its_own() -> None:
    profiles = [SERVICES[name]["profiles"] for name in SCANNERS]
    assert profiles == [["gpu"], ["cpu"]]


def test_the_image_is_pinned_unprivileged_and_watched() -> None:
    text = (ROOT / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert "-c constraints.txt" in text
    assert final.index("collectstatic") < final.index("\nUSER hardmine\n")
    path = re.search(r"127\.0\.0\.1:8000(/\w+/)", final)
    assert path
    assert resolve(path[1]).url_name == "health"


def test_the_image_gets_no_data_and_no_secrets() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert allowed.isdisjoint({"var", ".git", ".env", ".venv", "tests"})
    assert all((ROOT / name).exists() for name in allowed)


def test_the_constraints_satisfy_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["demo"], *extras["dev"]):
        requirement = Requirement(line)
        pinned = pins()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned, prereleases=True), line


def test_the_constraints_pin_everything_that_is_needed() -> None:
    installed = {canonicalize_name(d.name): d for d in distributions()}
    pinned = pins()
    for name in pinned.keys() & installed.keys():
        for line in installed[name].requires or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                assert canonicalize_name(needed.name) in pinned, f"{name} needs {line}"


def test_ci_is_a_sound_script_that_can_be_run() -> None:
    script = ROOT / ".ci/run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
    assert "set -euo pipefail" in script.read_text()
