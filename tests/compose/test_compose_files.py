"""docker-compose.yaml and .env.example: variables, mounts, ports, dependencies; no container engine is needed."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.compose.compose_files import (
    COMPOSE_FILE,
    ENV_EXAMPLE,
    ROOT,
    compose,
    copied_files,
    filled_env,
    load_script,
    mounts,
    option,
    read_env,
    run,
    services,
    stages,
    variables,
)
from tests.compose.stack import compose_command

SERVICES = services()
AIRFLOW_SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer")


@pytest.mark.slow
def test_compose_file_obeys_the_compose_specification(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = run(*check, COMPOSE_FILE)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(COMPOSE_FILE.read_text(encoding="utf-8").replace("healthcheck:", "health_check:", 1))
    assert run(*check, broken).returncode != 0


@pytest.mark.slow
def test_compose_accepts_the_file_and_refuses_to_start_without_secrets(tmp_path: Path) -> None:
    command = compose_command()
    if command is None:
        pytest.skip("`docker compose` is not installed; install Docker Compose 2 or newer to run this test")
    clean = {name: value for name, value in os.environ.items() if name not in filled_env()}
    env_file = tmp_path / "env"
    env_file.write_text("".join(f"{name}={value}\n" for name, value in filled_env().items()))
    done = run(*command, "--env-file", env_file, "--file", COMPOSE_FILE, "config", env=clean)
    assert done.returncode == 0, done.stderr
    known = yaml.safe_load(done.stdout)
    assert set(known["services"]) == set(SERVICES)
    assert known["services"]["init"]["environment"]["UI_PASSWORD"] == read_env(env_file.read_text())["UI_PASSWORD"]
    # Compose and these tests interpolate variables in the same way.
    for name, service in services(read_env(env_file.read_text())).items():
        assert {key: str(value) for key, value in service.get("environment", {}).items()} == {
            key: str(value) for key, value in known["services"][name].get("environment", {}).items()
        }
    for incomplete in (ENV_EXAMPLE, Path(os.devnull)):
        refused = run(*command, "--env-file", incomplete, "--file", COMPOSE_FILE, "config", env=clean)
        assert refused.returncode != 0
        assert "scripts/write_env.py" in refused.stderr


# Variables.


def test_every_variable_is_explained_and_every_explained_variable_is_used() -> None:
    explained = read_env(ENV_EXAMPLE.read_text(encoding="utf-8"))
    assert {variable.name for variable in variables()} == set(explained)
    blocks = re.split(r"\n\s*\n", ENV_EXAMPLE.read_text(encoding="utf-8"))
    assert [block for block in blocks if not block.lstrip().startswith("#")] == [], "a block without an explanation"


def test_a_default_is_the_same_in_both_files() -> None:
    explained = read_env(ENV_EXAMPLE.read_text(encoding="utf-8"))
    for variable in variables():
        if variable.operator == ":-" and explained[variable.name]:
            assert variable.text == explained[variable.name], variable.name
    # A default that is a folder of this project stands for "none", so .env.example leaves it empty.
    emptied = {v.name for v in variables() if v.operator == ":-" and not explained[v.name]}
    assert emptied == {"IMAGES", "WEIGHTS"}


def test_secrets_have_no_default_and_the_error_names_the_remedy() -> None:
    needed = {variable.name: variable for variable in variables() if variable.operator == ":?"}
    assert all("scripts/write_env.py" in v.text and "cp .env.example .env" in v.text for v in needed.values())
    for name in (variable.name for variable in variables()):
        assert (name in needed) == (re.search(r"PASSWORD|SECRET|_KEY|^UI_USER$|^START_DATE$", name) is not None), name
    generated = load_script("scripts/write_env.py").VALUES
    assert set(needed) - set(generated) == {"UI_USER"}
    explained = read_env(ENV_EXAMPLE.read_text(encoding="utf-8"))
    assert all(explained[name] == "" for name in generated), ".env.example contains a public secret"
    operators = {variable.operator for variable in variables()}
    assert operators == {":?", ":-"}, "a variable that may be empty without an error"


# Mounts and volumes.


def test_mounted_paths_exist_and_are_read_only() -> None:
    for name, service in SERVICES.items():
        for mount in mounts(service):
            if mount.is_bind:
                assert (ROOT / mount.source).exists(), f"{name} mounts {mount.source}"
                assert mount.read_only, f"{name} could write into {mount.source}"


def test_what_airflow_parses_and_runs_is_mounted() -> None:
    needed = {"./dags", "./include", "./plugins", "./spark_jobs", "./requirements-cluster.txt"}
    for name in AIRFLOW_SERVICES:
        bound = {mount.source: mount.target for mount in mounts(SERVICES[name]) if mount.is_bind}
        assert bound == {source: f"/opt/fruits/{source.removeprefix('./')}" for source in needed}, name
    assert {mount.source for mount in mounts(SERVICES["emr"]) if mount.is_bind} == {"./local"}
    assert "./local" in {mount.source for mount in mounts(SERVICES["init"])}


def test_named_volumes_are_declared_used_and_owned_by_the_user_who_writes() -> None:
    used = {mount.source for service in SERVICES.values() for mount in mounts(service) if not mount.is_bind}
    assert used == set(compose()["volumes"])
    folders = re.search(
        r"install --directory --owner=fruits --group=fruits ([/\w ]+)", " ".join(stages()["base"].all("RUN"))
    )
    assert folders is not None
    for name, service in SERVICES.items():
        for mount in mounts(service):
            if not mount.is_bind and name != "postgres":
                # A named volume has the owner of the image's folder that it covers, or else root.
                assert mount.target in folders[1].split(), f"{name}: the Dockerfile does not create {mount.target}"


def test_all_persistent_data_is_in_a_volume() -> None:
    volumes = {
        (name, mount.target) for name, service in SERVICES.items() for mount in mounts(service) if not mount.is_bind
    }
    assert {
        ("postgres", "/var/lib/postgresql/data"),
        ("store", "/data"),
        ("emr", "/state"),
        ("scheduler", "/opt/airflow/logs"),
        ("api-server", "/opt/airflow/logs"),
    } <= volumes
    assert "-dir=/data" in SERVICES["store"]["command"]
    assert "--state-dir=/state" in SERVICES["emr"]["command"]


# Ports.


def test_each_port_is_published_once_on_loopback_and_can_be_changed() -> None:
    published = {name: list(service["ports"]) for name, service in compose()["services"].items() if "ports" in service}
    assert published == {
        "store": ["127.0.0.1:${STORE_PORT:-8333}:8333"],
        "api-server": ["${UI_ADDRESS:-127.0.0.1}:${UI_PORT:-8080}:8080"],
    }, "the EMR endpoint runs any command and PostgreSQL serves only the stack: neither may be published"
    changed = services(filled_env() | {"UI_PORT": "18080", "STORE_PORT": "18333"})
    assert changed["api-server"]["ports"] == ["127.0.0.1:18080:8080"]
    assert changed["store"]["ports"] == ["127.0.0.1:18333:8333"]
    assert changed["scheduler"]["environment"]["AIRFLOW__API__BASE_URL"] == "http://localhost:18080"


def test_services_are_addressed_at_the_ports_on_which_they_listen() -> None:
    listening = {
        "api-server": str(SERVICES["api-server"]["command"][-1]),
        "store": option(SERVICES["store"]["command"], "-s3.port"),
        "emr": option(SERVICES["emr"]["command"], "--port"),
        "postgres": "5432",
    }
    for name, service in SERVICES.items():
        for variable, value in service["environment"].items():
            for host, port in re.findall(r"(?:http://|@)([a-z-]+):(\d+)", str(value)):
                if host != "localhost":
                    assert listening[host] == port, f"{name}: {variable}={value}"
                    assert SERVICES[host]["hostname"] == host
        for port in service.get("ports", []):
            assert port.rsplit(":", 1)[1] == listening[name]
        test = service.get("healthcheck", {}).get("test", [])
        for port in re.findall(r"http://127\.0\.0\.1:(\d+)/", " ".join(test)):
            assert port == listening[name], f"{name}: its health check uses another port"


# Health, start order, restarts, logs, privileges.


def test_long_running_services_have_a_health_check_and_restart() -> None:
    assert SERVICES["init"]["restart"] == "no"
    assert "healthcheck" not in SERVICES["init"], "init runs once"
    healthy = load_script("docker/healthy.py")
    assert "docker/healthy.py" in copied_files(stages()["base"])
    for name in set(SERVICES) - {"init"}:
        assert SERVICES[name]["restart"] == "unless-stopped", name
        check = SERVICES[name]["healthcheck"]
        assert {"test", "interval", "timeout", "retries", "start_period"} <= set(check), name
        if name != "postgres":
            assert check["test"][:3] == ["CMD", "python", "/usr/local/bin/healthy.py"], name
            assert healthy.read_options(check["test"][3:]).target, name


def test_logs_are_bounded_and_no_container_gains_privileges() -> None:
    assert SERVICES["postgres"]["user"] == "postgres"
    for name, service in SERVICES.items():
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert service["logging"]["driver"] == "json-file", name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert service["hostname"] == name


def test_services_wait_for_their_dependencies() -> None:
    waits = {
        name: {other: entry["condition"] for other, entry in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    for name, needed in waits.items():
        for other, condition in needed.items():
            assert condition == ("service_completed_successfully" if other == "init" else "service_healthy"), name
            assert other == "init" or "healthcheck" in SERVICES[other]
    assert set(waits["init"]) == {"postgres", "store"}
    for name in AIRFLOW_SERVICES:
        assert {"init", "postgres", "store", "emr"} <= set(waits[name])
    assert "api-server" in waits["scheduler"], "tasks call the execution API"
    # No cycle: an order exists in which all services can start.
    started: set[str] = set()
    while ready := {name for name in waits if name not in started and set(waits[name]) <= started}:
        started |= ready
    assert started == set(SERVICES)
