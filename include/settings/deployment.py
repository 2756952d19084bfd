"""Typed settings, and the only reader of the environment, of Airflow Variables and of the run's Params.

Two kinds of settings:

- *deployment settings* (:class:`Settings`): the environment variable ``FRUITS_X`` wins over the Airflow Variable
  ``fruits_x``, which wins over the default. Those that shape the DAG itself (schedule, owner, …) are read where the
  dag-processor parses the file, so they come from the environment only: a Variable would cost a request a parse.
- *run parameters* (:class:`RunParams`): the Params of one run, from the trigger form, the API or their defaults.

All problems are reported in one error, each with the setting's name, its value and what was expected.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from spark_jobs.args import DEFAULT_PATTERN, IGNORE_ORIENTATION, PROJECTED_SCORES

Profile = Literal["aws", "local"]
Architecture = Literal["arm64", "x86_64"]
VariableReader = Callable[[str], str | None]


class SettingsError(ValueError):
    """One or more settings are missing or wrong; the message lists them all."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("Settings: " + "; ".join(problems))


@dataclass(frozen=True)
class Notifier:
    """A notifier called when a run fails: the dotted path of a ``BaseNotifier`` class and its arguments."""

    path: str
    arguments: dict[str, Any]


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def _optional(value: str) -> str | None:
    return None if value.strip().lower() in {"", "none"} else value.strip()


def _profile(value: str) -> str:
    if value not in {"aws", "local"}:
        raise ValueError("'aws' or 'local'")
    return value


def _architecture(value: str) -> str:
    if value not in DEFAULT_INSTANCE_TYPES:
        raise ValueError(" or ".join(map(repr, DEFAULT_INSTANCE_TYPES)))
    return value


def _bucket(value: str) -> str | None:
    return read_location(value) if _optional(value) else None


def _tags(value: str) -> tuple[tuple[str, str], ...]:
    pairs = [item.partition("=") for item in _names(value)]
    if not all(key.strip() and separator for key, separator, _ in pairs):
        raise ValueError("key=value, separated by commas")
    tags = tuple((key.strip(), text.strip()) for key, _, text in pairs)
    if len(dict(tags)) < len(tags):
        raise ValueError("each key once")
    return tags


def read_location(value: str) -> str:
    """Return the root of a lake without a slash at its end.

    Raises
    ------
    ValueError
        With what was expected. A folder on S3 has to be of S3's safe characters: spark-submit takes others, in the
        addresses of its files, for URL syntax.
    """
    scheme, separator, rest = value.partition("://")
    if not separator or not rest.strip("/") or scheme != ("file" if rest[0] == "/" else "s3"):
        raise ValueError("s3://bucket[/folder] or file:///absolute/path")
    if scheme == "s3" and not _SAFE_KEY.fullmatch(rest):
        raise ValueError("s3://bucket[/folder] of the letters A to Z, digits and ! - _ . * ' ( ) / only")
    return value.rstrip("/")


_SAFE_KEY = re.compile(r"[A-Za-z0-9!\-_.*'()/]+")


def _names(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise ValueError("a number of seconds, more than 0 and at most 86400")
    return seconds


def _minutes(value: str) -> float:
    try:
        minutes = float(value)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 1440:
        raise ValueError("a number of minutes, more than 0 and at most 1440")
    return minutes


def _euros(value: str) -> float | None:
    if _optional(value) is None:
        return None
    try:
        euros = float(value)
    except ValueError:
        euros = 0.0
    if not (math.isfinite(euros) and euros > 0):
        raise ValueError("a number of euros greater than 0, such as 25, or none")
    return euros


def _count(value: str) -> int:
    if value not in {str(count) for count in range(11)}:
        raise ValueError("a whole number from 0 to 10")
    return int(value)


def _threshold(value: str) -> float:
    try:
        threshold = float(value)
    except ValueError:
        threshold = 0.0
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError("a number greater than 0, such as 0.1")
    return threshold


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("a time zone's name, such as Europe/Paris")
    return ZoneInfo(value).key


def _date(value: str) -> date:
    """Read a day, or a moment (a datetime is a date, too)."""
    try:
        return date.fromisoformat(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("a date as YYYY-MM-DD, or a moment with its time zone as YYYY-MM-DDTHH:MM:SSZ")
    return moment


def _notifier(value: str) -> Notifier | None:
    if not value.strip():
        return None
    expected = 'JSON such as {"path": "package.module.NotifierClass", "arguments": {…}}'
    try:
        record = json.loads(value)
    except ValueError:
        raise ValueError(expected) from None
    if not isinstance(record, dict) or not isinstance(record.get("path"), str) or "." not in record["path"]:
        raise ValueError(expected)
    if not isinstance(record.get("arguments", {}), dict) or set(record) - {"path", "arguments"}:
        raise ValueError(expected)
    return Notifier(record["path"], record.get("arguments", {}))


def _setting(
    help_text: str,
    read: Callable[[str], Any],
    default: Any = MISSING,
    *,
    shapes_dag: bool = False,
) -> Any:
    """Declare a deployment setting; ``shapes_dag`` marks those that come from the environment only."""
    metadata = {"help": help_text, "read": read, "shapes_dag": shapes_dag}
    return field(metadata=metadata) if default is MISSING else field(metadata=metadata, default=default)


@dataclass(frozen=True)
class Settings:
    """The deployment settings; ``FRUITS_`` and the field's name in capitals is the environment variable."""

    profile: Profile = _setting("`aws` (production) or `local` (no AWS account)", _profile, "aws", shapes_dag=True)
    schedule: str | None = _setting(
        "cron expression or preset; `none` for runs by hand only", _optional, "@daily", shapes_dag=True
    )
    timezone: str = _setting("time zone of the schedule", _zone, "Europe/Paris", shapes_dag=True)
    start_date: date = _setting("first day, or moment, of the schedule", _date, date(2026, 1, 1), shapes_dag=True)
    owner: str = _setting("owner shown in the Airflow UI", _text, "data-engineering", shapes_dag=True)
    failure_notifier: Notifier | None = _setting(
        'notifier called when a run fails: `{"path": "…NotifierClass", "arguments": {…}}`',
        _notifier,
        None,
        shapes_dag=True,
    )
    aws_conn_id: str | None = _setting(
        "Airflow connection for AWS; `none`: boto3's own credential chain", _optional, "aws_default", shapes_dag=True
    )
    region: str = _setting("AWS region of the cluster", _text, "eu-west-3", shapes_dag=True)
    allowed_regions: tuple[str, ...] = _setting(
        "regions where data may be (GDPR)", _names, ("eu-west-3",), shapes_dag=True
    )
    poke_interval_seconds: float = _setting("seconds between two looks at a step", _seconds, 60.0, shapes_dag=True)
    reaper_schedule: str | None = _setting(
        "cron expression or preset of `fruit_reaper`; `none` for never", _optional, "*/15 * * * *", shapes_dag=True
    )
    reaper_grace_minutes: float = _setting("`fruit_reaper` leaves younger clusters alone", _minutes, 10.0)
    retries: int = _setting("retries of the tasks that are safe to repeat", _count, 2, shapes_dag=True)
    retry_delay_seconds: float = _setting("seconds before a retry", _seconds, 60.0, shapes_dag=True)
    api_patience_seconds: float = _setting(
        "how long a task goes on asking while EMR throttles, fails or does not answer", _seconds, 300.0
    )
    log_wait_seconds: float = _setting(
        "how long a task waits for the logs of a step that failed; EMR writes them every five minutes", _seconds, 420.0
    )
    price_table: str | None = _setting(
        "table of prices that replaces ours: path or s3:// address of its JSON (docs/cost.md)", _optional, None
    )
    max_cost_eur: float | None = _setting(
        "default of the parameter of that name; none for no cap", _euros, None, shapes_dag=True
    )
    lake: str | None = _setting(
        "root of the lake: s3://bucket[/folder]; file:///path with profile local", read_location, None
    )
    model: str | None = _setting(
        "folder name under models/ of the model to use; the published one by default", _optional, None
    )
    drift_threshold: float = _setting(
        "a run warns when its features differ from those of the published run by more than this (docs/quality.md)",
        _threshold,
        0.1,
    )
    service_role: str = _setting("EMR service role", _text, "EMR_DefaultRole_V2")
    job_flow_role: str = _setting("EC2 instance profile of the nodes", _text, "EMR_EC2_DefaultRole")
    subnet_ids: tuple[str, ...] = _setting(
        "subnets of the cluster, separated by commas; of several, EMR takes one whose zone has the nodes", _names, ()
    )
    architecture: Architecture = _setting(
        "`arm64` (Graviton) or `x86_64`: of the nodes, and of the default instance types",
        _architecture,
        "arm64",
        shapes_dag=True,
    )
    master_security_group: str | None = _setting(
        "EMR-managed security group of the primary node; EMR makes its own by default", _optional, None
    )
    core_security_group: str | None = _setting(
        "EMR-managed security group of the core and task nodes; EMR makes its own by default", _optional, None
    )
    service_security_group: str | None = _setting(
        "security group through which EMR reaches nodes in private subnets; needed with the other two", _optional, None
    )
    security_configuration: str | None = _setting(
        "name of EMR's security configuration: encryption, IMDSv2", _optional, None
    )
    kms_key: str | None = _setting("ARN of the KMS key of the cluster's logs", _optional, None)
    logs: str | None = _setting("root of the cluster's logs; `logs/` in the lake by default", _bucket, None)
    tags: tuple[tuple[str, str], ...] = _setting("more tags of the cluster: key=value, separated by commas", _tags, ())
    local_hosts: tuple[str, ...] = _setting(
        "with profile local: host names, beside loopback, that endpoints may have", _names, ()
    )

    @property
    def schedule_start(self) -> datetime:
        """The moment from which the schedule counts, in its time zone."""
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
            When it is not set.
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
        Returns the text of an Airflow Variable, or None; without it (while a DAG file is parsed) no Variable is read.

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
    if problems:
        raise SettingsError(problems)
    settings = Settings(**values)
    problems = _refusals(settings, environ)
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
"""Variables with our prefix that are read elsewhere: where the local run looks for weights."""


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = {environment_name(item.name) for item in fields(Settings)} | OTHER_NAMES
    return [
        f"{name} is not a setting; expected one of {', '.join(sorted(known))}"
        for name in sorted(environ)
        if name.startswith("FRUITS_") and name not in known
    ]


def _refusals(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    """What the profile and the residency rule forbid in the settings themselves."""
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


DEFAULT_INSTANCE_TYPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "arm64": ("m7g.xlarge", ("c7g.2xlarge", "c8g.2xlarge", "c6g.2xlarge")),
    "x86_64": ("m7i.xlarge", ("c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge")),
}
"""By architecture: the primary node's type, and those of the core and task nodes."""


@dataclass(frozen=True)
class RunParams:
    """The parameters of one run, as the trigger form shows them."""

    data_prefix: str = "data"
    image_pattern: str = DEFAULT_PATTERN
    variance_target: float | None = 0.80
    n_components: int | None = None
    scores: str = PROJECTED_SCORES
    sample_images: int = 2000
    max_reject_ratio: float = 0.05
    exif_orientation: str = IGNORE_ORIENTATION
    release_label: str = "emr-spark-8.1.0"
    master_instance_type: str = DEFAULT_INSTANCE_TYPES["arm64"][0]
    core_instance_types: tuple[str, ...] = DEFAULT_INSTANCE_TYPES["arm64"][1]
    core_instance_count: int = 2
    task_instance_count: int = 2
    ebs_gib: int = 32
    images_per_task: int = 12_000
    step_time_limit_minutes: int = 180
    idle_timeout_minutes: int = 15
    max_cost_eur: float | None = None

    @classmethod
    def for_architecture(cls, architecture: str) -> RunParams:
        """Return the defaults where nodes are of an architecture."""
        master, core = DEFAULT_INSTANCE_TYPES[architecture]
        return cls(master_instance_type=master, core_instance_types=core)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> RunParams:
        """Take the run's Params; Airflow has checked their types and bounds against the DAG's JSON schemas.

        Raises
        ------
        SettingsError
            When a parameter is missing, one is not of this DAG, or nothing says how many components to keep.
        """
        known = {item.name: str(item.type) for item in fields(cls)}
        problems = [f"the parameter {name!r} is missing" for name in sorted(set(known) - set(params))]
        problems += [f"{name!r} is not a parameter of this DAG" for name in sorted(set(params) - set(known))]
        if not problems and params["variance_target"] is None and params["n_components"] is None:
            problems = ["variance_target and n_components are both empty; expected one of them, or both"]
        if problems:
            raise SettingsError(problems)
        return cls(**{name: _plain(value, known[name]) for name, value in params.items()})


def _plain(value: Any, expected: str) -> Any:
    """Return a parameter as its field has it: to JSON a list is a tuple, too, and 5.0 an integer."""
    if isinstance(value, list):
        return tuple(value)
    return int(value) if isinstance(value, float) and expected.startswith("int") else value
