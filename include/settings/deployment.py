"""The deployment settings, and the only reader of the environment and of Airflow Variables.

The environment variable ``FRUITS_X`` overrides the Airflow Variable ``fruits_x``, which overrides the default. Settings
that shape the DAG itself (schedule, owner, …) are read when the dag-processor parses the file. They come from the
environment only: a Variable would cost a request at each parse.

All problems are reported in one error, each with the setting's name, its value and what was expected.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from include.settings.readers import (
    Notifier,
    choice_reader,
    read_count,
    read_date,
    read_location,
    read_minutes,
    read_names,
    read_notifier,
    read_optional,
    read_optional_euros,
    read_optional_location,
    read_positive_count,
    read_seconds,
    read_tags,
    read_text,
    read_threshold,
    read_zone,
)
from spark_jobs.args import PcaArgs

Profile = Literal["aws", "local"]
Architecture = Literal["arm64", "x86_64"]
VariableReader = Callable[[str], str | None]


class SettingsError(ValueError):
    """One or more settings are missing or wrong; the message lists them all."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("Settings: " + "; ".join(problems))


def _setting(help_text: str, read: Callable[[str], Any], default: Any, *, shapes_dag: bool = False) -> Any:
    """Declare a deployment setting; ``shapes_dag`` marks those that come from the environment only."""
    return field(default=default, metadata={"help": help_text, "read": read, "shapes_dag": shapes_dag})


@dataclass(frozen=True)
class Settings:
    """The deployment settings; ``FRUITS_`` and the field's name in capitals is the environment variable."""

    profile: Profile = _setting(
        "`aws` (production) or `local` (no AWS account)", choice_reader(*get_args(Profile)), "aws", shapes_dag=True
    )
    schedule: str | None = _setting(
        "cron expression or preset; `none` for manual runs only", read_optional, "@daily", shapes_dag=True
    )
    timezone: str = _setting("time zone of the schedule", read_zone, "Europe/Paris", shapes_dag=True)
    start_date: date = _setting("start date (or time) of the schedule", read_date, date(2026, 1, 1), shapes_dag=True)
    owner: str = _setting("owner shown in the Airflow UI", read_text, "data-engineering", shapes_dag=True)
    failure_notifier: Notifier | None = _setting(
        'notifier called when a run fails: `{"path": "…NotifierClass", "arguments": {…}}`',
        read_notifier,
        None,
        shapes_dag=True,
    )
    aws_conn_id: str | None = _setting(
        "Airflow connection for AWS; `none`: boto3's default credential chain",
        read_optional,
        "aws_default",
        shapes_dag=True,
    )
    region: str = _setting("AWS region of the cluster", read_text, "eu-west-3", shapes_dag=True)
    allowed_regions: tuple[str, ...] = _setting(
        "regions in which data may be stored and processed (GDPR)", read_names, ("eu-west-3",), shapes_dag=True
    )
    poke_interval_seconds: float = _setting(
        "seconds between two checks of a step's state", read_seconds, 60.0, shapes_dag=True
    )
    reaper_schedule: str | None = _setting(
        "cron expression or preset of `fruit_reaper`; `none` to disable it",
        read_optional,
        "*/15 * * * *",
        shapes_dag=True,
    )
    reaper_grace_minutes: float = _setting("`fruit_reaper` ignores clusters younger than this", read_minutes, 10.0)
    retries: int = _setting("retries of the tasks that are safe to repeat", read_count, 2, shapes_dag=True)
    retry_delay_seconds: float = _setting("seconds before a retry", read_seconds, 60.0, shapes_dag=True)
    api_patience_seconds: float = _setting(
        "how long a task retries a request while EMR throttles it, fails or does not answer", read_seconds, 300.0
    )
    log_wait_seconds: float = _setting(
        "how long a task waits for the logs of a failed step; EMR writes them every five minutes", read_seconds, 420.0
    )
    kept_states: int = _setting(
        "number of published states to keep; what only older states need is deleted", read_positive_count, 7
    )
    price_table: str | None = _setting(
        "price table that replaces the built-in one: path or s3:// URI of its JSON file (docs/cost.md)",
        read_optional,
        None,
    )
    max_cost_eur: float | None = _setting(
        "default of the run parameter with the same name; `none` for no limit",
        read_optional_euros,
        None,
        shapes_dag=True,
    )
    lake: str | None = _setting(
        "root of the lake: s3://bucket[/folder]; file:///path with profile `local`", read_location, None
    )
    model: str | None = _setting(
        "folder name under models/ of the model to use; the published one by default", read_optional, None
    )
    drift_threshold: float = _setting(
        "a run warns if its features differ from those of the published run by more than this (docs/quality.md)",
        read_threshold,
        PcaArgs.drift_threshold,
    )
    service_role: str = _setting("EMR service role", read_text, "EMR_DefaultRole_V2")
    job_flow_role: str = _setting("EC2 instance profile of the nodes", read_text, "EMR_EC2_DefaultRole")
    subnet_ids: tuple[str, ...] = _setting(
        "subnets for the cluster, separated by commas; EMR chooses one whose zone offers the instance types",
        read_names,
        (),
    )
    architecture: Architecture = _setting(
        "`arm64` (Graviton) or `x86_64`: architecture of the nodes and of the default instance types",
        choice_reader(*get_args(Architecture)),
        "arm64",
        shapes_dag=True,
    )
    master_security_group: str | None = _setting(
        "EMR-managed security group of the primary node; EMR creates one by default", read_optional, None
    )
    core_security_group: str | None = _setting(
        "EMR-managed security group of the core and task nodes; EMR creates one by default", read_optional, None
    )
    service_security_group: str | None = _setting(
        "security group through which EMR reaches nodes in private subnets; required with the other two",
        read_optional,
        None,
    )
    security_configuration: str | None = _setting(
        "name of the EMR security configuration: encryption, IMDSv2", read_optional, None
    )
    kms_key: str | None = _setting("ARN of the KMS key that encrypts the cluster's logs", read_optional, None)
    logs: str | None = _setting(
        "root of the cluster's logs; `logs/` in the lake by default", read_optional_location, None
    )
    tags: tuple[tuple[str, str], ...] = _setting(
        "additional tags of the cluster: key=value, separated by commas", read_tags, ()
    )
    local_hosts: tuple[str, ...] = _setting(
        "with profile `local`: host names that endpoints may have in addition to loopback", read_names, ()
    )

    @property
    def schedule_start(self) -> datetime:
        """Start of the schedule, in its time zone."""
        zone = ZoneInfo(self.timezone)
        if isinstance(self.start_date, datetime):
            return self.start_date.astimezone(zone)
        return datetime.combine(self.start_date, datetime.min.time(), tzinfo=zone)

    @property
    def lake_root(self) -> str:
        """The lake's root.

        Raises
        ------
        SettingsError
            If ``FRUITS_LAKE`` is not set.
        """
        if self.lake is None:
            raise SettingsError(
                ["FRUITS_LAKE (or the Airflow Variable fruits_lake) is not set; expected the lake's root, s3://bucket"]
            )
        return self.lake


def environment_name(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"FRUITS_{name.upper()}"


def variable_name(name: str) -> str:
    """Return the Airflow Variable of a setting."""
    return f"fruits_{name}"


def read_settings(environ: Mapping[str, str] | None = None, variables: VariableReader | None = None) -> Settings:
    """Read the deployment settings.

    Parameters
    ----------
    environ : mapping, optional
        The environment; this process's by default.
    variables : callable, optional
        Returns the text of an Airflow Variable, or None. By default (while a DAG file is parsed) no Variable is read.

    Raises
    ------
    SettingsError
        With every setting that is wrong, refused by the profile, or unknown (a ``FRUITS_`` variable with a typo).
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    values: dict[str, Any] = {}
    for item in fields(Settings):
        source, text = _lookup(item.name, bool(item.metadata["shapes_dag"]), environ, variables)
        if text is None:
            continue
        try:
            values[item.name] = item.metadata["read"](text)
        except ValueError as error:
            problems.append(f"{source}={text!r}: expected {error}")
    problems += _unknown_names(environ)
    settings = Settings(**values)
    problems = problems or _refusals(settings, environ)
    if problems:
        raise SettingsError(problems)
    return settings


def _lookup(
    name: str, shapes_dag: bool, environ: Mapping[str, str], variables: VariableReader | None
) -> tuple[str, str | None]:
    source = environment_name(name)
    if source in environ:
        return source, environ[source]
    if shapes_dag or variables is None:
        return source, None
    return f"Variable {variable_name(name)}", variables(variable_name(name))


OTHER_NAMES = frozenset({"FRUITS_WEIGHTS"})
"""Environment variables with our prefix that are not settings: the local run reads the weights' file from this one."""


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = {environment_name(item.name) for item in fields(Settings)} | OTHER_NAMES
    return [
        f"{name} is not a setting; expected one of {', '.join(sorted(known))}"
        for name in sorted(environ)
        if name.startswith("FRUITS_") and name not in known
    ]


def _refusals(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """Return the settings that the profile or the residency rule forbids."""
    problems = []
    if settings.region not in settings.allowed_regions:
        problems.append(
            f"FRUITS_REGION={settings.region!r}: expected one of "
            f"FRUITS_ALLOWED_REGIONS={','.join(settings.allowed_regions)!r}; data may not leave these regions"
        )
    if settings.profile == "aws":
        problems += [
            f"{name}={environ[name]!r}: endpoint overrides are refused with FRUITS_PROFILE=aws; unset it, "
            "or set FRUITS_PROFILE=local"
            for name in sorted(environ)
            if name.startswith("AWS_ENDPOINT_URL") and environ[name]
        ]
        if settings.lake is not None and not settings.lake.startswith("s3://"):
            problems.append(f"FRUITS_LAKE={settings.lake!r}: expected s3://bucket[/folder] with FRUITS_PROFILE=aws")
    return problems


def read_airflow_settings() -> Settings:
    """Read the deployment settings inside a task: the environment, then Airflow Variables, then the defaults.

    Raises
    ------
    SettingsError
        As :func:`read_settings`.
    """
    from airflow.sdk import Variable

    return read_settings(variables=lambda name: Variable.get(name, default=None))
