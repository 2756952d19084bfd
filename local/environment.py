"""The environment of the processes of a local run: that of this process, without credentials or settings of AWS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LOCAL = PROJECT / ".local"

UNREACHABLE_URL = "http://127.0.0.1:1"
"""The endpoint URL of processes that must not call the EMR endpoint: no server listens there."""

_FOREIGN_PREFIXES = (
    "AWS_",
    "BOTO",
    "AIRFLOW",
    "FRUITS_",
    "SPARK_",
    "PYSPARK_",
    "HADOOP_",
    "YARN_",
    "PYTHON",
    "LC_",
)
_KEPT = ("FRUITS_WEIGHTS",)

_NETWORK = ("_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Endings of the names of variables, in any case, that set the proxy and the trusted certificates of HTTP clients."""


def local_environment(
    *,
    airflow_home: Path,
    endpoint_url: str,
    lake: str,
    store_url: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the environment for Airflow and the endpoint.

    Credentials, profiles and endpoint settings of AWS are removed, and the instance metadata service is disabled. So a
    local run cannot start a cluster in the AWS account of the user's shell. Proxies and certificates are
    removed too, since the run talks to loopback addresses only: Airflow's HTTP client (httpx) refuses to start when a
    variable names a proxy scheme that it does not know, such as the ``socks://`` of GNOME's settings.

    Parameters
    ----------
    airflow_home : Path
        Folder of Airflow's configuration, database and logs.
    endpoint_url : str
        URL of the local EMR endpoint.
    lake : str
        Root of the lake, ``file://`` or ``s3://``.
    store_url : str, optional
        URL of the local S3 store of an ``s3://`` lake. Without one, the S3 endpoint is the EMR endpoint, so that a
        call to S3 fails.
    environ : mapping, optional
        The environment to start from; by default that of this process.
    """
    environ = os.environ if environ is None else environ
    clean = {
        name: value
        for name, value in environ.items()
        if name in _KEPT or not (name.startswith(_FOREIGN_PREFIXES) or name.upper().endswith(_NETWORK))
    }
    return clean | _process() | _aws(endpoint_url, store_url or endpoint_url) | _airflow(airflow_home) | _settings(lake)


def download_settings(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that downloads need, proxies and trusted certificates; by default of this process."""
    environ = os.environ if environ is None else environ
    network = {name: value for name, value in environ.items() if name.upper().endswith(_NETWORK)}
    return {name: value for name, value in network.items() if name.upper() != "NO_PROXY"}


def _process() -> dict[str, str]:
    return {
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONPATH": str(PROJECT),  # Airflow puts dags/ and plugins/ on the path, not the project
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _aws(endpoint_url: str, store_url: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_REGION": "eu-west-3",
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ENDPOINT_URL_EMR": endpoint_url,
        "AWS_ENDPOINT_URL_S3": store_url,
        "AWS_ENDPOINT_URL_STS": endpoint_url,
    }


def _airflow(airflow_home: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DEFAULT_TIMEZONE": "utc",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{airflow_home}/airflow.db",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
    }


def _settings(lake: str) -> dict[str, str]:
    return {
        "FRUITS_PROFILE": "local",
        "FRUITS_LAKE": lake,
        "FRUITS_AWS_CONN_ID": "none",
        "FRUITS_POKE_INTERVAL_SECONDS": "1",
        "FRUITS_RETRY_DELAY_SECONDS": "2",
        "FRUITS_LOG_WAIT_SECONDS": "30",  # the endpoint writes all logs when a step ends
    }
