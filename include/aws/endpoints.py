"""Which addresses the run may talk to: the guard between a demo and a real AWS account."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from include.aws.regions import region_or_none
from include.settings.deployment import Settings


class EndpointRefusedError(RuntimeError):
    """The address that a client would really call is not one that the profile allows."""


def check_endpoint(service: str, endpoint_url: str, settings: Settings) -> None:
    """Refuse an address that does not belong to the profile.

    What is checked is what the client *resolved*, not what the environment asked for:
    ``AWS_IGNORE_CONFIGURED_ENDPOINT_URLS`` makes boto3 ignore endpoint variables, and a connection's ``endpoint_url``
    wins over them.

    Parameters
    ----------
    service : str
        Name of the service, for the message.
    endpoint_url : str
        The client's ``meta.endpoint_url``.
    settings : Settings
        The deployment settings.

    Raises
    ------
    EndpointRefusedError
        With profile ``local``, when the host is neither loopback nor in ``FRUITS_LOCAL_HOSTS``; with profile ``aws``,
        when it is not an HTTPS host of AWS in the region.
    """
    parts = urlsplit(endpoint_url)
    host = (parts.hostname or "").lower()
    if settings.profile == "local":
        if not _is_loopback(host) and host not in {name.lower() for name in settings.local_hosts}:
            raise EndpointRefusedError(
                f"{service} resolves to {endpoint_url}, and FRUITS_PROFILE=local talks to loopback"
                f"{_also(settings.local_hosts)} only. Set AWS_ENDPOINT_URL_{service.upper()} to the local endpoint, "
                "and unset AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
            )
        return
    regions = {label for label in host.split(".") if region_or_none(label)}
    if parts.scheme != "https" or not host.endswith(_AWS_DOMAINS) or regions != {settings.region}:
        raise EndpointRefusedError(
            f"{service} resolves to {endpoint_url}; with FRUITS_PROFILE=aws expected an HTTPS address of AWS in "
            f"{settings.region}. Remove the endpoint_url of the connection {settings.aws_conn_id!r} or of the AWS "
            "config file, or set FRUITS_PROFILE=local"
        )


_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.eu", ".api.aws")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _also(hosts: tuple[str, ...]) -> str:
    return f" and {', '.join(hosts)}" if hosts else ""


def check_clients(settings: Settings) -> dict[str, str]:
    """Resolve the EMR and S3 clients as the operators do, and check where each would call.

    Returns
    -------
    dict
        Service name to the address it resolved to.

    Raises
    ------
    EndpointRefusedError
        As :func:`check_endpoint`.
    """
    from airflow.providers.amazon.aws.hooks.emr import EmrHook
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    hooks = {
        "emr": EmrHook(emr_conn_id=None, aws_conn_id=settings.aws_conn_id, region_name=settings.region),
        "s3": S3Hook(aws_conn_id=settings.aws_conn_id, region_name=settings.region),
    }
    resolved = {service: str(hook.conn.meta.endpoint_url) for service, hook in hooks.items()}
    for service, endpoint_url in resolved.items():
        check_endpoint(service, endpoint_url, settings)
    return resolved
