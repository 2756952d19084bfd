"""docker-compose.yaml, the Dockerfile and .env.example against each other, and against what they name; no engine."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from include.aws.endpoints import check_endpoint
from include.settings.deployment import read_settings
from tests.compose.compose_files import (
    COMPOSE_FILE,
    DOCKERFILE,
    ENV_EXAMPLE,
    ROOT,
    Stage,
    compose,
    filled_env,
    is_sent,
    lineage,
    load_script,
    mounts,
    read_env,
    services,
    stages,
    variables,
)

SERVICES = services()
LONG_RUNNING = sorted(set(SERVICES) - {"init"})
AIRFLOW = ["api-server", "dag-processor", "init", "scheduler", "triggerer"]
SHARED_SECRETS = {
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__CORE__FERNET_KEY",
}
FULL_VERSION = re.compile(r"^[a-z][a-z0-9./-]*:\d+\.\d+(\.\d+)?-[a-z][a-z-]*(@sha256:[0-9a-f]{64})?$")


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def program(name: str) -> str:
    """A program that a package of requirements.txt carries."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found is not None, f"{name} is missing: run `make setup`"
    return found


# The files by themselves: the compose specification, compose itself, hadolint.


def test_compose_file_obeys_the_compose_specification(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = run(*check, COMPOSE_FILE)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "broken.yaml"
    broken.write_text(COMPOSE_FILE.read_text(encoding="utf-8").replace("healthcheck:", "health_check:", 1))
    assert run(*check, broken).returncode != 0


def compose_command() -> list[str]:
    """The compose command of this machine; the test is skipped where there is none."""
    if shutil.which("docker") and run("docker", "compose", "version", "--short").stdout.strip():
        return ["docker", "compose"]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fruit-features"
    for candidate in [shutil.which("docker-compose"), *sorted(map(str, cache.glob("docker-compose-v*")))]:
        if candidate and run(candidate, "version", "--short").stdout.strip().lstrip("v").startswith(("2", "5")):
            return [candidate]
    pytest.skip("no `docker compose` on this machine; tests/compose/get_compose.sh makes one where Go is installed")


def test_compose_accepts_the_file_and_refuses_to_start_without_secrets(tmp_path: Path) -> None:
    command = compose_command()
    clean = {name: value for name, value in os.environ.items() if name not in filled_env()}
    written = tmp_path / "env"
    written.write_text("".join(f"{name}={value}\n" for name, value in filled_env().items()))
    done = run(*command, "--env-file", written, "--file", COMPOSE_FILE, "config", env=clean)
    assert done.returncode == 0, done.stderr
    known = yaml.safe_load(done.stdout)
    assert set(known["services"]) == set(SERVICES)
    assert known["services"]["init"]["environment"]["UI_PASSWORD"] == read_env(written.read_text())["UI_PASSWORD"]
    # Compose and these tests fill in variables alike.
    ours = services(read_env(written.read_text()))
    for name, service in ours.items():
        assert {key: str(value) for key, value in service.get("environment", {}).items()} == {
            key: str(value) for key, value in known["services"][name].get("environment", {}).items()
        }
    for env_file in (ENV_EXAMPLE, Path(os.devnull)):
        refused = run(*command, "--env-file", env_file, "--file", COMPOSE_FILE, "config", env=clean)
        assert refused.returncode != 0
        assert "scripts/write_env.py" in refused.stderr


def test_dockerfile_passes_hadolint(tmp_path: Path) -> None:
    hadolint = program("hadolint")
    done = run(hadolint, DOCKERFILE)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "Dockerfile"
    broken.write_text(DOCKERFILE.read_text(encoding="utf-8").replace('"openjdk-17-jre-headless=17.*"', "curl"))
    assert "DL3008" in run(hadolint, broken).stdout


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
    # A default that is a folder of this project stands for "none", and is not for people to fill in.
    emptied = {v.name for v in variables() if v.operator == ":-" and not explained[v.name]}
    assert emptied == {"IMAGES", "WEIGHTS"}


def test_nothing_secret_has_a_default_and_the_error_says_what_to_do() -> None:
    needed = {variable.name: variable for variable in variables() if variable.operator == ":?"}
    assert all("scripts/write_env.py" in v.text and "cp .env.example .env" in v.text for v in needed.values())
    for name in (variable.name for variable in variables()):
        assert (name in needed) == (re.search(r"PASSWORD|SECRET|_KEY|^UI_USER$|^START_DATE$", name) is not None), name
    written = load_script("scripts/write_env.py").VALUES
    assert set(needed) - set(written) == {"UI_USER"}
    explained = read_env(ENV_EXAMPLE.read_text(encoding="utf-8"))
    assert all(explained[name] == "" for name in written), ".env.example has a secret that everybody knows"
    operators = {variable.operator for variable in variables()}
    assert operators == {":?", ":-"}, "a variable that may silently be empty"


# Mounts and volumes.


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_mounted_paths_exist_and_are_read_only(name: str) -> None:
    for mount in mounts(SERVICES[name]):
        if mount.is_bind:
            assert (ROOT / mount.source).exists(), f"{name} mounts {mount.source}"
            assert mount.read_only, f"{name} could write into {mount.source}"


def test_what_airflow_parses_and_runs_is_mounted() -> None:
    needed = {"./dags", "./include", "./plugins", "./spark_jobs", "./requirements-cluster.txt"}
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        bound = {mount.source: mount.target for mount in mounts(SERVICES[name]) if mount.is_bind}
        assert bound == {source: f"/opt/fruits/{source.removeprefix('./')}" for source in needed}, name
    assert {mount.source for mount in mounts(SERVICES["emr"]) if mount.is_bind} == {"./local"}
    assert "./local" in {mount.source for mount in mounts(SERVICES["init"])}


def test_named_volumes_are_declared_used_and_owned_by_the_user_who_writes() -> None:
    used = {mount.source for service in SERVICES.values() for mount in mounts(service) if not mount.is_bind}
    assert used == set(compose()["volumes"])
    owned = " ".join(stages()["base"].all("RUN"))
    folders = re.search(r"install --directory --owner=fruits --group=fruits ([/\w ]+)", owned)
    assert folders is not None
    for name, service in SERVICES.items():
        for mount in mounts(service):
            if not mount.is_bind and name != "postgres":
                # A named volume takes the owner of the image's folder that it covers; without one it is root's.
                assert mount.target in folders[1].split(), f"{name}: {mount.target} is not made in the Dockerfile"


def test_data_of_each_kind_is_in_a_volume() -> None:
    kept = {
        (name, mount.target) for name, service in SERVICES.items() for mount in mounts(service) if not mount.is_bind
    }
    assert {
        ("postgres", "/var/lib/postgresql/data"),
        ("store", "/data"),
        ("emr", "/state"),
        ("scheduler", "/opt/airflow/logs"),
        ("api-server", "/opt/airflow/logs"),
    } <= kept
    assert "-dir=/data" in SERVICES["store"]["command"]
    assert "--state-dir=/state" in SERVICES["emr"]["command"]


# Images.


def test_every_base_image_is_an_argument_pinned_to_a_full_version() -> None:
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M))
    assert arguments
    for stage in stages().values():
        base = re.fullmatch(r"\$\{(\w+)\}", stage.base)
        assert stage.base in stages() or (base is not None and base[1] in arguments), f"{stage.name}: {stage.base}"
    for name, service in SERVICES.items():
        if "build" in service:
            assert service["build"]["args"] == arguments, f"{name}: the defaults differ from the Dockerfile's"
            assert service["image"] == f"fruits-{service['build']['target']}:local"
        else:
            assert FULL_VERSION.match(service["image"]), f"{name}: {service['image']}"
    assert all(FULL_VERSION.match(image) for image in arguments.values()), arguments


def test_python_in_the_images_is_the_project_s() -> None:
    required = re.search(r'requires-python = ">=(3\.\d+),', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert required is not None
    assert filled_env()["PYTHON_IMAGE"].startswith(f"python:{required[1]}.")


def test_every_build_target_is_in_the_dockerfile_and_every_image_is_used() -> None:
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == {"airflow", "emr", "init", "store"}
    assert targets <= set(stages())
    bases = {stage.base for stage in stages().values()}
    copied = {re.sub(r"--from=(\w+).*", r"\1", text) for stage in stages().values() for text in stage.all("COPY")}
    assert set(stages()) - targets <= bases | copied, "a stage that nothing uses"


@pytest.mark.parametrize("name", ["airflow", "emr", "init", "store"])
def test_containers_do_not_run_as_root(name: str) -> None:
    users = [text for stage in lineage(name) for text in reversed(stage.all("USER"))]
    uid, _, gid = users[0].partition(":")
    assert int(uid) > 0
    assert int(gid) > 0
    made = " ".join(stages()["base"].all("RUN"))
    assert f"useradd --uid {uid} " in made
    assert f"groupadd --gid {gid} " in made
    for service in SERVICES.values():
        if service.get("build", {}).get("target") == name:
            assert "user" not in service
            assert service["cap_drop"] == ["ALL"]


def test_postgres_does_not_run_as_root() -> None:
    assert SERVICES["postgres"]["user"] == "postgres"


def copied_files(stage: Stage) -> list[str]:
    """The files and folders of this project that a stage copies."""
    found: list[str] = []
    for text in stage.all("COPY"):
        words = shlex.split(text)
        if not words[0].startswith("--from="):
            found += words[:-1]
    return found


def test_what_the_dockerfile_copies_exists_and_is_sent_to_the_builder() -> None:
    sources = [source for stage in stages().values() for source in copied_files(stage)]
    assert len(sources) >= 8
    for source in sources:
        path = ROOT / source
        assert path.exists(), source
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        for file in files:
            assert is_sent(file.relative_to(ROOT).as_posix()), f"{file} is in .dockerignore"
    for private in (".env", ".git/config", ".venv/complete", ".local/x", "local/emr/__pycache__/x.pyc"):
        assert not is_sent(private), private
    assert not is_sent("README.md")


@pytest.mark.parametrize("name", ["airflow", "emr", "init", "store", "uv"])
def test_images_install_locked_and_hashed_versions_that_are_tested_here(name: str) -> None:
    locked, tested = pins(f"docker/{name}.txt"), pins("requirements.txt")
    text = (ROOT / f"docker/{name}.txt").read_text(encoding="utf-8")
    assert locked
    assert not re.search(r"--(extra-)?index-url|--find-links|https?://", text)
    blocks = re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"^\s*#.*\n", "", text, flags=re.M))
    assert all("--hash=sha256:" in block for block in blocks if block.strip())
    drivers = {"asyncpg", "psycopg2-binary"}  # only Airflow on PostgreSQL needs them
    differing = {package for package, versions in locked.items() if not versions <= tested.get(package, set())}
    assert differing <= drivers, f"docker/{name}.txt is not what is tested: run `make lock`"
    assert f"docker/{name}.txt" in {source for stage in stages().values() for source in copied_files(stage)}


def pins(name: str) -> dict[str, set[str]]:
    """Package to the versions that are pinned, one for each platform that differs."""
    found: dict[str, set[str]] = {}
    for match in re.finditer(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.M):
        found.setdefault(match[1].lower(), set()).add(match[2])
    return found


def test_airflow_s_image_has_neither_tensorflow_nor_spark_and_the_steps_image_has_no_airflow() -> None:
    heavy = {"tensorflow", "tensorflow-cpu", "keras", "pyspark", "moto"}
    assert not heavy & set(pins("docker/airflow.txt"))
    assert not {"apache-airflow", "tensorflow", "tensorflow-cpu", "keras"} & set(pins("docker/emr.txt"))
    assert {"psycopg2-binary", "asyncpg"} <= set(pins("docker/airflow.txt"))
    assert {"pyspark", "moto", "ai-edge-litert"} <= set(pins("docker/emr.txt"))
    assert {"apache-airflow", "keras", "ai-edge-litert"} <= set(pins("docker/init.txt"))


def test_every_package_is_installed_from_a_lock() -> None:
    script = (ROOT / "docker/install.sh").read_text(encoding="utf-8")
    installs = [line for line in script.splitlines() if re.search(r"\bpip install\b", line)]
    assert len(installs) == 2
    assert all("--require-hashes" in line for line in installs)
    assert run("sh", "-n", ROOT / "docker/install.sh").returncode == 0
    for stage in stages().values():
        for text in stage.all("RUN"):
            assert not re.search(r"\b(pip|uv|curl|wget)\b", text), f"{stage.name}: {text}"


# Ports.


def test_each_port_is_published_once_on_loopback_and_can_be_changed() -> None:
    published = {name: list(service["ports"]) for name, service in compose()["services"].items() if "ports" in service}
    assert published == {
        "store": ["127.0.0.1:${STORE_PORT:-8333}:8333"],
        "api-server": ["${UI_ADDRESS:-127.0.0.1}:${UI_PORT:-8080}:8080"],
    }, "the EMR endpoint runs any command, and PostgreSQL is nobody else's: neither is published"
    changed = services(filled_env() | {"UI_PORT": "18080", "STORE_PORT": "18333"})
    assert changed["api-server"]["ports"] == ["127.0.0.1:18080:8080"]
    assert changed["store"]["ports"] == ["127.0.0.1:18333:8333"]
    assert changed["scheduler"]["environment"]["AIRFLOW__API__BASE_URL"] == "http://localhost:18080"


def test_services_are_reached_where_they_listen() -> None:
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
            assert port == listening[name], f"{name}: its health check asks another port"


def option(command: list[str], name: str) -> str:
    (value,) = [part.partition("=")[2] for part in command if part.partition("=")[0] == name]
    return value


# Settings of Airflow and of this project.


@pytest.mark.parametrize("name", AIRFLOW)
def test_airflow_settings_are_options_of_this_airflow(name: str) -> None:
    from airflow.configuration import retrieve_configuration_description

    known = retrieve_configuration_description(include_airflow=True, include_providers=False)
    settings = [variable for variable in SERVICES[name]["environment"] if variable.startswith("AIRFLOW")]
    assert len(settings) > 15
    for variable in settings:
        _, section, key = variable.split("__")
        options = known.get(section.lower(), {"options": {}})["options"]
        assert key.lower() in options, f"{variable} is not an option of Airflow"


def test_airflow_settings_name_things_that_exist() -> None:
    from airflow.configuration import AirflowConfigParser
    from airflow.executors.executor_loader import ExecutorLoader

    environment = SERVICES["scheduler"]["environment"]
    for variable in ("AIRFLOW__CORE__AUTH_MANAGER", "AIRFLOW__CORE__HOSTNAME_CALLABLE"):
        module, _, attribute = environment[variable].rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute)), variable
    assert environment["AIRFLOW__CORE__EXECUTOR"] in ExecutorLoader.executors
    target = environment["AIRFLOW__LOGGING__DAG_PROCESSOR_LOG_TARGET"]
    assert target in AirflowConfigParser.enums_options["logging", "dag_processor_log_target"]


def test_every_airflow_container_shares_the_secrets_and_the_addresses() -> None:
    same = SHARED_SECRETS | {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}
    written = compose()["services"]
    for variable in same:
        values = {written[name]["environment"][variable] for name in AIRFLOW}
        assert len(values) == 1, f"{variable} differs between the containers"
        assert variable.endswith("_URL") or ":?" in values.pop(), f"{variable} is not taken from .env"
    for name in set(SERVICES) - set(AIRFLOW):
        assert not SHARED_SECRETS & set(SERVICES[name]["environment"]), f"{name} has no use for Airflow's secrets"


@pytest.mark.parametrize("name", AIRFLOW)
def test_fruits_settings_are_accepted_and_lead_to_the_stack_only(name: str) -> None:
    environment = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
    settings = read_settings(environment)  # an unknown FRUITS_ variable is an error
    assert settings.profile == "local"
    assert settings.aws_conn_id is None
    assert settings.schedule_start == datetime.fromisoformat(environment["FRUITS_START_DATE"])
    endpoints = {key: value for key, value in environment.items() if key.startswith("AWS_ENDPOINT_URL")}
    assert {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EMR", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"} == set(endpoints)
    for key, value in endpoints.items():
        check_endpoint(key, value, settings)


def test_the_scheduler_hears_of_a_poke_s_end_long_before_the_next_poke() -> None:
    # Otherwise it takes the one for the loss of the other, and fails the sensor (apache/airflow #71172).
    environment = SERVICES["scheduler"]["environment"]
    poke = float(environment["FRUITS_POKE_INTERVAL_SECONDS"])
    assert poke >= 10 * float(environment["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"])


@pytest.mark.parametrize("name", [*AIRFLOW, "emr"])
def test_nothing_leads_to_a_real_account(name: str) -> None:
    from local.environment import local_environment

    environment = SERVICES[name]["environment"]
    ours = local_environment(airflow_home=Path("/x"), endpoint_url="http://127.0.0.1:1", lake="file:///x", environ={})
    switched_off = {key: value for key, value in ours.items() if key.startswith("AWS_") and "ENDPOINT" not in key}
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert {key: environment[key] for key in switched_off if key not in keys} == {
        key: value for key, value in switched_off.items() if key not in keys
    }
    store = SERVICES["store"]["environment"]
    assert {key: environment[key] for key in keys} == {key: store[key] for key in keys}, "not the store's keys"


@pytest.mark.parametrize("minutes", [1, 60, 23 * 60])
def test_unpausing_runs_only_what_was_missed_and_runs_by_hand_are_possible(
    minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.timetables import trigger
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable

    environment = {key: str(value) for key, value in SERVICES["scheduler"]["environment"].items()}
    settings = read_settings(environment)
    # .env was written at noon, and the stack comes up that many minutes later.
    start = datetime(2026, 11, 21, 12, tzinfo=ZoneInfo(settings.timezone))
    now = start + timedelta(minutes=minutes)
    monkeypatch.setattr(trigger, "utcnow", lambda: now.astimezone(UTC))
    assert settings.schedule is not None
    timetable = CronTriggerTimetable(settings.schedule, timezone=settings.timezone)
    first = timetable.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(earliest=start, latest=None, catchup=False)
    )
    assert first is not None
    assert first.run_after == datetime(2026, 11, 22, tzinfo=ZoneInfo(settings.timezone))
    missed = minutes == 23 * 60  # that midnight has passed while the stack was not there
    assert (first.run_after > now) is not missed
    # A run by hand before the DAG's start has no tasks, and succeeds: the start may not be in the future.
    assert settings.schedule_start <= datetime.now(UTC)


# Commands.


def test_commands_of_the_airflow_services_are_airflow_s() -> None:
    from airflow.cli import cli_parser

    parser = cli_parser.get_parser()
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        command = [str(part) for part in SERVICES[name]["command"]]
        assert command[0] == "airflow"
        assert parser.parse_args(command[1:]).subcommand == name


def test_command_of_the_endpoint_is_the_endpoint_s() -> None:
    from local.emr import __main__ as endpoint

    command = SERVICES["emr"]["command"]
    assert command[:3] == ["python", "-m", "local.emr"]
    arguments = endpoint._parser().parse_args(command[3:])
    assert arguments.allow_remote
    assert (arguments.host, arguments.port, arguments.state_dir) == ("0.0.0.0", 5000, Path("/state"))


def test_command_of_the_store_has_the_options_of_the_store_without_docker() -> None:
    from local.s3.process import FIXED_OPTIONS, find_program

    command = SERVICES["store"]["command"]
    assert command[:2] == ["weed", "server"]
    assert set(FIXED_OPTIONS) - set(command) == {"-ip.bind=127.0.0.1"}
    assert set(command[2:]) - set(FIXED_OPTIONS) == {"-dir=/data", "-ip.bind=0.0.0.0", "-s3.port=8333"}
    known = run(find_program(), "server", "-h")
    options = set(re.findall(r"^  (-[\w.]+)", known.stdout + known.stderr, flags=re.M))
    assert {part.partition("=")[0] for part in command[2:]} <= options


def test_commands_of_init_exist_and_take_their_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from airflow.cli import cli_parser

    prepare = importlib.import_module("local.images.prepare")
    script = SERVICES["init"]["command"][1]
    assert (ROOT / script).is_file()
    assert "./docker" in {mount.source for mount in mounts(SERVICES["init"])}
    init = load_script(script)
    environment = {key: str(value) for key, value in SERVICES["init"]["environment"].items()}
    migrate, plain = init.commands(environment)
    cli_parser.get_parser().parse_args(migrate[3:])
    assert migrate[1:3] == ["-m", "airflow"]
    assert plain[1:3] == ["-m", "local.images.prepare"]
    options = prepare.read_options(plain[3:])
    assert options.lake == "s3://fruits"
    assert options.images is None
    targets = {mount.target for mount in mounts(SERVICES["init"])}
    assert str(options.state) in targets
    _, with_images = init.commands(environment | {"IMAGES": "./photos"})
    assert str(prepare.read_options(with_images[3:]).images) in targets


# How services live: health, order, restarts, logs.


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_long_running_services_are_watched_and_restarted(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert {"test", "interval", "timeout", "retries", "start_period"} <= set(check)
    if name != "postgres":
        assert check["test"][:3] == ["CMD", "python", "/usr/local/bin/healthy.py"]
        healthy = load_script("docker/healthy.py").read_options(check["test"][3:])
        assert healthy.target
        assert "docker/healthy.py" in copied_files(stages()["base"])


def test_init_runs_once() -> None:
    assert SERVICES["init"]["restart"] == "no"
    assert "healthcheck" not in SERVICES["init"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_logs_are_bounded_and_no_container_gains_privileges(name: str) -> None:
    service = SERVICES[name]
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["logging"]["driver"] == "json-file"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["hostname"] == name


def test_services_wait_for_what_they_need() -> None:
    waits = {
        name: {other: entry["condition"] for other, entry in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    for name, needed in waits.items():
        for other, condition in needed.items():
            assert condition == ("service_completed_successfully" if other == "init" else "service_healthy"), name
            assert other == "init" or "healthcheck" in SERVICES[other]
    assert set(waits["init"]) == {"postgres", "store"}
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        assert {"init", "postgres", "store", "emr"} <= set(waits[name])
    assert "api-server" in waits["scheduler"], "tasks call the execution API"
    # No circle: services can be started in some order.
    started: set[str] = set()
    while ready := {name for name in waits if name not in started and set(waits[name]) <= started}:
        started |= ready
    assert started == set(SERVICES)


# What runs in an image finds the packages that it imports.

PARTS_OF_IMAGES = {
    "airflow": ["dags", "plugins", "include", "spark_jobs/args.py", "spark_jobs/records.py"],
    "emr": ["local/emr", "local/processes", "spark_jobs"],
    "init": ["include", "local/images", "spark_jobs/model/export.py"],
}
NOT_IN_THE_STEPS_IMAGE = {"tensorflow", "keras"}
"""Imported by the export of the model alone, which the init image runs."""


def imported_packages(pattern: str) -> set[str]:
    """The top-level packages that a part of this project imports, anywhere in it, beside its own."""
    part = ROOT / pattern
    sources = [part] if part.is_file() else sorted(part.rglob("*.py"))
    assert sources, pattern
    names = set()
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"include", "local", "spark_jobs", "dags", "plugins", "__future__"}


@pytest.mark.parametrize("name", sorted(PARTS_OF_IMAGES))
def test_what_an_image_runs_finds_its_packages_there(name: str) -> None:
    locked = pins(f"docker/{name}.txt")
    owners = packages_distributions()
    for part in PARTS_OF_IMAGES[name]:
        for package in sorted(imported_packages(part) - (NOT_IN_THE_STEPS_IMAGE if name == "emr" else set())):
            # A namespace such as `airflow` belongs to several distributions; one of them has to be there.
            found = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(package, [package])}
            assert found & set(locked), f"{part} imports {package}, which docker/{name}.txt does not install"
