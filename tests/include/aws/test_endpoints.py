"""Which endpoints may be called: similar names are refused; the address that boto3 resolves is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.aws.endpoints import EndpointRefusedError, check_clients, check_endpoint
from include.settings.deployment import Settings

AWS = Settings(aws_conn_id=None)
LOCAL = Settings(profile="local", aws_conn_id=None)
COMPOSE = Settings(profile="local", aws_conn_id=None, local_hosts=("emr", "SeaweedFS"))


slow = pytest.mark.slow  # loads Airflow's Amazon provider and creates boto3 clients


def refusal(url: str, settings: Settings) -> str:
    """Return why an address is refused; an empty text if it is allowed."""
    try:
        check_endpoint("emr", url, settings)
    except EndpointRefusedError as error:
        return str(error)
    return ""


def test_local_profile_allows_loopback() -> None:
    for url in (
        "http://127.0.0.1:5000",
        "http://127.5.6.7",
        "http://localhost:5000",
        "http://LOCALHOST:5000",
        "http://[::1]:5000",
        "https://localhost",
        "http://user:secret@127.0.0.1:5000",
    ):
        check_endpoint("emr", url, LOCAL)


def test_local_profile_allows_named_hosts() -> None:
    for url in ("http://emr:5000", "http://EMR:5000", "http://seaweedfs:8333"):
        check_endpoint("s3", url, COMPOSE)
        assert refusal(url, LOCAL), url


def test_local_profile_refuses_all_other_hosts() -> None:
    for url in (
        "https://elasticmapreduce.eu-west-3.amazonaws.com",
        "http://127.0.0.1.evil.com",
        "http://localhost.evil.com",
        "http://evil.com/127.0.0.1",
        "http://evil.com?127.0.0.1",
        "http://evil.com#@127.0.0.1",
        "http://127.0.0.1@evil.com",
        "http://127.0.0.1:5000@evil.com",
        "http://0.0.0.0:5000",
        "http://169.254.169.254",
        "http://192.168.0.7:5000",
        "http://[::ffff:10.0.0.1]",
        "http://notemr",
        "http://emr.evil.com",
        "http://evil.emr",
        "http://",
        "",
    ):
        assert "unset AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" in refusal(url, COMPOSE), url


def test_production_allows_aws_in_its_region() -> None:
    for url in (
        "https://elasticmapreduce.eu-west-3.amazonaws.com",
        "https://eu-west-3.elasticmapreduce.amazonaws.com",
        "https://s3.eu-west-3.amazonaws.com",
        "https://s3.dualstack.eu-west-3.amazonaws.com",
        "https://vpce-0123-abc.elasticmapreduce.eu-west-3.vpce.amazonaws.com",
        "https://elasticmapreduce.eu-west-3.api.aws",
    ):
        check_endpoint("emr", url, AWS)


def test_production_refuses_all_other_addresses() -> None:
    for url in (
        "http://elasticmapreduce.eu-west-3.amazonaws.com",
        "https://elasticmapreduce.us-east-1.amazonaws.com",
        "https://s3.amazonaws.com",
        "https://eu-west-3.s3.us-east-1.amazonaws.com",
        "https://evil/?eu-west-3.amazonaws.com",
        "https://evil.com/eu-west-3.amazonaws.com",
        "https://eu-west-3.amazonaws.com.evil.com",
        "https://eu-west-3.evilamazonaws.com",
        "https://eu-west-3.amazonaws.com@evil.com",
        "https://127.0.0.1:5000",
        "http://localhost:5000",
    ):
        assert "expected an HTTPS address of AWS in eu-west-3" in refusal(url, AWS), url


@pytest.fixture
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    return monkeypatch


@slow
def test_clients_resolve_to_the_endpoint_variables() -> None:
    assert check_clients(LOCAL) == {"emr": "http://127.0.0.1:1", "s3": "http://127.0.0.1:1"}


@slow
def test_variable_that_makes_boto3_ignore_the_endpoints_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    with pytest.raises(EndpointRefusedError, match=r"emr resolves to https://.*amazonaws\.com"):
        check_clients(LOCAL)


@slow
def test_one_service_without_a_local_endpoint_is_detected(no_endpoint: pytest.MonkeyPatch) -> None:
    no_endpoint.setenv("AWS_ENDPOINT_URL_EMR", "http://127.0.0.1:1")
    with pytest.raises(EndpointRefusedError, match=r"^s3 resolves to https://.*AWS_ENDPOINT_URL_S3"):
        check_clients(LOCAL)


@slow
@pytest.mark.usefixtures("no_endpoint")
def test_production_clients_resolve_to_aws_in_the_region() -> None:
    resolved = check_clients(AWS)
    assert resolved["emr"] == "https://elasticmapreduce.eu-west-3.amazonaws.com"
    assert resolved["s3"] == "https://s3.eu-west-3.amazonaws.com"


@slow
def test_production_refuses_the_endpoint_of_an_aws_config_file(no_endpoint: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nendpoint_url = http://127.0.0.1:5000\n")
    no_endpoint.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(EndpointRefusedError, match="AWS config file"):
        check_clients(AWS)


@slow
def test_production_refuses_the_endpoint_of_a_connection(no_endpoint: pytest.MonkeyPatch) -> None:
    no_endpoint.setenv(
        "AIRFLOW_CONN_AWS_DEFAULT", '{"conn_type": "aws", "extra": {"endpoint_url": "http://127.0.0.1:5000"}}'
    )
    with pytest.raises(EndpointRefusedError, match="connection 'aws_default'"):
        check_clients(Settings())
