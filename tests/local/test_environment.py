"""The environment of a local run: nothing in it leads to AWS, whatever the shell had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.settings.deployment import read_settings
from local.environment import PROJECT, download_settings, local_environment

URL = "http://127.0.0.1:12345"

HOSTILE = {
    "AWS_PROFILE": "production",
    "AWS_DEFAULT_PROFILE": "production",
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_SECRET_ACCESS_KEY": "real",
    "AWS_SESSION_TOKEN": "real",
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/admin",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.2/x",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_ENDPOINT_URL_EMR": "https://elasticmapreduce.eu-west-3.amazonaws.com",
    "AWS_ENDPOINT_URL_IAM": "https://iam.amazonaws.com",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/home/me/.aws/config",
    "AWS_CA_BUNDLE": "/ca.pem",
    "BOTO_CONFIG": "/home/me/.boto",
    "AIRFLOW_HOME": "/home/me/airflow",
    "AIRFLOW__CORE__DAGS_FOLDER": "/home/me/dags",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
    "AIRFLOW_CONN_AWS_DEFAULT": "aws://key:secret@",
    "AIRFLOW_VAR_FRUITS_LAKE": "s3://production",
    "FRUITS_LAKE": "s3://production",
    "FRUITS_PROFILE": "aws",
    "FRUITS_LAEK": "s3://production",
    "SPARK_HOME": "/opt/spark",
    "SPARK_CONF_DIR": "/etc/spark",
    "PYSPARK_PYTHON": "/usr/bin/python2",
    "PYSPARK_SUBMIT_ARGS": "--master yarn",
    "HADOOP_CONF_DIR": "/etc/hadoop",
    "YARN_CONF_DIR": "/etc/yarn",
    "PYTHONPATH": "/home/me/code",
    "PYTHONHOME": "/nowhere",
    "PYTHONSTARTUP": "/home/me/.pythonrc",
    "PYTHONWARNINGS": "error",
    "LC_ALL": "C",
    "LC_CTYPE": "C",
    "HTTPS_PROXY": "http://proxy:3128",
    "all_proxy": "socks://proxy:1080",
    "ALL_PROXY": "socks://proxy:1080",
    "SSL_CERT_FILE": "/missing.pem",
    "NO_PROXY": "example.com",
}
KEPT = {"FRUITS_WEIGHTS": "/w.h5", "HOME": "/home/me", "JAVA_HOME": "/opt/java", "PATH": "/usr/bin", "KERAS_HOME": "/k"}


def environment(environ: dict[str, str]) -> dict[str, str]:
    return local_environment(airflow_home=Path("/home"), endpoint_url=URL, lake="file:///lake", environ=environ)


def test_hostile_shell_gives_the_same_environment_as_an_empty_one() -> None:
    assert environment(HOSTILE) == environment({})


@pytest.mark.slow
def test_airflows_http_client_starts_whatever_proxy_and_certificates_the_shell_names() -> None:
    """httpx refuses an unknown scheme, such as the ``socks://`` of GNOME, and a missing file of certificates."""
    code = "import httpx; httpx.Client()"

    def starts(environ: dict[str, str]) -> bool:
        return (
            subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=False).returncode == 0
        )

    for name, value in {"ALL_PROXY": "socks://proxy:1080", "SSL_CERT_FILE": "/missing.pem"}.items():
        assert not starts(dict(os.environ) | {name: value})
        assert starts(environment(dict(os.environ) | {name: value}))


def test_downloads_keep_proxies_and_certificates_of_the_shell() -> None:
    kept = {name: HOSTILE[name] for name in ("HTTPS_PROXY", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE")}
    assert download_settings(HOSTILE) == kept


def test_what_the_run_needs_of_the_shell_is_kept() -> None:
    found = environment(HOSTILE | KEPT)
    assert {name: found[name] for name in KEPT} == KEPT


def test_loopback_does_not_go_through_a_proxy() -> None:
    found = environment(HOSTILE)
    assert "127.0.0.1" in found["NO_PROXY"].split(",")
    assert found["NO_PROXY"] == found["no_proxy"]


@given(
    st.dictionaries(st.sampled_from(["AWS_X", "AWS_ENDPOINT_URL_X", "AIRFLOW__X__Y", "FRUITS_X", "BOTO_X"]), st.text())
)
def test_no_variable_of_these_families_comes_through(environ: dict[str, str]) -> None:
    assert environment(environ) == environment({})


def test_settings_accept_it() -> None:
    settings = read_settings(environment(HOSTILE))
    assert settings.profile == "local"
    assert settings.lake == "file:///lake"
    assert settings.aws_conn_id is None


def test_own_environment_is_the_start_by_default_and_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    found = local_environment(airflow_home=Path("/home"), endpoint_url=URL, lake="file:///lake")
    assert "AWS_PROFILE" not in found
    assert found["PATH"] == os.environ["PATH"]
    assert os.environ["AWS_PROFILE"] == "production"


@pytest.mark.slow
def test_every_client_made_in_it_calls_loopback_with_dummy_keys(tmp_path: Path) -> None:
    """With files that hold a real-looking account in the home folder, in a process of its own."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = us-east-1\nignore_configured_endpoint_urls = true\n")
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n"
    )
    code = """
import boto3, json
session = boto3.Session()
made = {name: session.client(name) for name in ("emr", "s3", "sts", "iam", "ec2", "logs")}
print(json.dumps({
    "urls": sorted({client.meta.endpoint_url for client in made.values()}),
    "regions": sorted({client.meta.region_name for client in made.values()} - {"aws-global"}),
    "key": session.get_credentials().access_key,
}))
"""
    environ = environment(HOSTILE | {"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == {"urls": [URL], "regions": ["eu-west-3"], "key": "local"}


def test_project_is_importable_in_it() -> None:
    assert environment({})["PYTHONPATH"] == str(PROJECT)
    assert (PROJECT / "include" / "settings" / "deployment.py").is_file()
