"""compose.yaml and the Dockerfile name only what there is. (Whether containers start is not tried.)"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from tests.test_docs import SETTINGS, variables_of_settings

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
ANY_OF_OURS = pytest.mark.parametrize("name", OURS)


def known_variables() -> set[str]:
    ours = {f"IMPORTOPS_{field.name.upper()}" for field in SETTINGS}
    return ours | variables_of_settings() | {"IMPORTOPS_DATA_DIR"}


def substituted(text: str) -> set[str]:
    return set(re.findall(r"\$\{([A-Z0-9_]+)", text))


def test_there_is_a_database_a_web_server_and_workers() -> None:
    assert {"setup", "web", "worker"} == OURS.keys()
    assert {"postgres", "rabbitmq"} == SERVICES.keys() - OURS.keys()
    assert SERVICES["rabbitmq"]["profiles"] == ["celery"]


@ANY_OF_OURS
def test_every_variable_is_one_that_we_read(name: str) -> None:
    assert OURS[name]["environment"].keys() - known_variables() == set()


@ANY_OF_OURS
def test_every_command_exists(name: str) -> None:
    first, *rest = OURS[name]["command"]
    if first == "python":
        assert rest[0] == "manage.py"
        assert get_commands()[rest[1]] == "importops"
    else:
        assert find_spec(first)
        assert find_spec(rest[0].partition(":")[0])


def test_what_a_service_waits_for_exists_and_can_be_waited_for() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
            else:
                assert SERVICES[other]["restart"] == "no"


def test_every_volume_is_declared_and_used() -> None:
    mounted = {mount.partition(":")[0] for s in SERVICES.values() for mount in s["volumes"]}
    assert mounted == COMPOSE["volumes"].keys()


def test_what_compose_wants_from_the_environment_stands_in_the_example() -> None:
    example = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z0-9_]+)=", example, re.MULTILINE))
    # The rest of the example reaches our containers as it stands.
    assert substituted((ROOT / "compose.yaml").read_text()) <= named
    assert all(SERVICES[name]["env_file"] == ".env" for name in ("setup", "web", "worker"))


def test_no_secret_stands_in_the_files_and_no_registry_is_named() -> None:
    for service in SERVICES.values():
        assert "." not in service["image"].partition(":")[0]
        for key, value in service["environment"].items():
            if re.search("KEY|PASS", key):
                assert str(value).startswith("${"), key
    images = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert [image for image in images if "/" in image or "." in image.partition(":")[0]] == []


def test_the_image_holds_what_it_copies_and_does_not_run_as_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if "!" in line
    }
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    assert [line for line in lines if line.startswith("USER ")] == ["USER importops"]
