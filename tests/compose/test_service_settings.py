"""Environment and commands of the services, against the programs that read them; no container engine is needed."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from include.aws.endpoints import check_endpoint
from include.settings.deployment import read_settings
from tests.compose.compose_files import ROOT, compose, load_script, mounts, run, services

pytestmark = pytest.mark.slow  # imports Airflow's configuration and command line, and moto

SERVICES = services()
AIRFLOW_CONTAINERS = ("api-server", "dag-processor", "init", "scheduler", "triggerer")
SHARED_SECRETS = {"AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW__CORE__FERNET_KEY"}


def environment_of(name: str) -> dict[str, str]:
    """Return a service's environment as its process reads it."""
    return {key: str(value) for key, value in SERVICES[name]["environment"].items()}


# Settings of Airflow and of this project.


def test_airflow_settings_are_options_of_this_airflow() -> None:
    from airflow.configuration import retrieve_configuration_description

    known = retrieve_configuration_description(include_airflow=True, include_providers=False)
    for name in AIRFLOW_CONTAINERS:
        settings = [variable for variable in environment_of(name) if variable.startswith("AIRFLOW")]
        assert len(settings) > 15, name
        for variable in settings:
            _, section, key = variable.split("__")
            options = known.get(section.lower(), {"options": {}})["options"]
            assert key.lower() in options, f"{name}: {variable} is not an option of Airflow"


def test_airflow_settings_name_things_that_exist() -> None:
    from airflow.configuration import AirflowConfigParser
    from airflow.executors.executor_loader import ExecutorLoader

    environment = environment_of("scheduler")
    for variable in ("AIRFLOW__CORE__AUTH_MANAGER", "AIRFLOW__CORE__HOSTNAME_CALLABLE"):
        module, _, attribute = environment[variable].rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute)), variable
    assert environment["AIRFLOW__CORE__EXECUTOR"] in ExecutorLoader.executors
    target = environment["AIRFLOW__LOGGING__DAG_PROCESSOR_LOG_TARGET"]
    assert target in AirflowConfigParser.enums_options["logging", "dag_processor_log_target"]


def test_every_airflow_container_shares_the_secrets_and_the_addresses() -> None:
    same = SHARED_SECRETS | {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"}
    uninterpolated = compose()["services"]
    for variable in same:
        values = {uninterpolated[name]["environment"][variable] for name in AIRFLOW_CONTAINERS}
        assert len(values) == 1, f"{variable} differs between the containers"
        assert variable.endswith("_URL") or ":?" in values.pop(), f"{variable} does not come from .env"
    for name in set(SERVICES) - set(AIRFLOW_CONTAINERS):
        assert not SHARED_SECRETS & set(SERVICES[name]["environment"]), f"{name} does not need Airflow's secrets"


def test_fruits_settings_are_accepted_and_point_only_to_the_stack() -> None:
    for name in AIRFLOW_CONTAINERS:
        environment = environment_of(name)
        settings = read_settings(environment)  # an unknown FRUITS_ variable is an error
        assert settings.profile == "local", name
        assert settings.aws_conn_id is None, name
        assert settings.schedule_start == datetime.fromisoformat(environment["FRUITS_START_DATE"]), name
        endpoints = {key: value for key, value in environment.items() if key.startswith("AWS_ENDPOINT_URL")}
        suffixes = {key.removeprefix("AWS_ENDPOINT_URL") for key in endpoints}
        assert suffixes == {"", "_EMR", "_S3", "_STS"}, name
        for key, value in endpoints.items():
            check_endpoint(key, value, settings)


def test_the_scheduler_learns_of_the_end_of_a_poke_long_before_the_next_poke() -> None:
    # Otherwise it mistakes that end for the loss of the next poke, and fails the sensor (apache/airflow #71172).
    environment = environment_of("scheduler")
    poke = float(environment["FRUITS_POKE_INTERVAL_SECONDS"])
    assert poke >= 10 * float(environment["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"])


def test_no_service_can_reach_a_real_account() -> None:
    from local.environment import local_environment

    ours = local_environment(airflow_home=Path("/x"), endpoint_url="http://127.0.0.1:1", lake="file:///x", environ={})
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    expected = {
        key: value
        for key, value in ours.items()
        if key.startswith("AWS_") and "ENDPOINT" not in key and key not in keys
    }
    assert expected
    expected |= {key: environment_of("store")[key] for key in keys}
    for name in (*AIRFLOW_CONTAINERS, "emr"):
        assert expected.items() <= environment_of(name).items(), name


@pytest.mark.parametrize("minutes", [1, 60, 23 * 60])
def test_unpausing_runs_only_a_missed_run_and_manual_runs_are_possible(
    minutes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.timetables import trigger
    from airflow.timetables.base import TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable

    settings = read_settings(environment_of("scheduler"))
    # .env was written at noon, and the stack starts that many minutes later.
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
    missed = minutes == 23 * 60  # midnight passed while the stack was down
    assert (first.run_after > now) is not missed
    # A manual run before the DAG's start date has no tasks, and succeeds: the start date must not be in the future.
    assert settings.schedule_start <= datetime.now(UTC)


# Commands.


def test_commands_of_the_airflow_services_are_valid() -> None:
    from airflow.cli import cli_parser

    parser = cli_parser.get_parser()
    for name in set(AIRFLOW_CONTAINERS) - {"init"}:
        command = [str(part) for part in SERVICES[name]["command"]]
        assert command[0] == "airflow"
        assert parser.parse_args(command[1:]).subcommand == name


def test_command_of_the_endpoint_is_valid() -> None:
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


def test_commands_of_init_exist_and_accept_their_options() -> None:
    from airflow.cli import cli_parser

    prepare = importlib.import_module("local.images.prepare")
    script = SERVICES["init"]["command"][1]
    targets = {mount.target for mount in mounts(SERVICES["init"])}
    assert (ROOT / script).is_file()
    assert "./docker" in {mount.source for mount in mounts(SERVICES["init"])}
    init = load_script(script)
    migrate, plain = init.commands(environment_of("init"))
    cli_parser.get_parser().parse_args(migrate[3:])
    assert migrate[1:3] == ["-m", "airflow"]
    assert plain[1:3] == ["-m", "local.images.prepare"]
    options = prepare.read_options(plain[3:])
    assert options.lake == "s3://fruits"
    assert options.images is None
    assert str(options.state) in targets
    _, with_images = init.commands(environment_of("init") | {"IMAGES": "./photos"})
    assert str(prepare.read_options(with_images[3:]).images) in targets
