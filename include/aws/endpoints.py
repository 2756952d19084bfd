"""Which endpoints a run may call: keeps a local demo away from a real AWS account, and production away from a demo."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from include.aws.regions import region_or_none
from include.settings.deployment import Settings


class EndpointRefusedError(RuntimeError):
    """The profile does not allow the address that a client would call."""


def check_endpoint(service: str, endpoint_url: str, settings: Settings) -> None:
    """Refuse an address that does not belong to the profile.

    Checks the address that the client *resolved*, not the environment variables:
    ``AWS_IGNORE_CONFIGURED_ENDPOINT_URLS`` makes boto3 ignore them, and a connection's ``endpoint_url`` overrides them.

    Parameters
    ----------
    service : str
        Name of the service, for the error message.
    endpoint_url : str
        The client's ``meta.endpoint_url``.
    settings : Settings
        The deployment settings.

    Raises
    ------
    EndpointRefusedError
        With profile ``local``, if the host is neither loopback nor in ``FRUITS_LOCAL_HOSTS``; with profile ``aws``, if
        it is not an HTTPS address of AWS in the region.
    """
    parts = urlsplit(endpoint_url)
    host = (parts.hostname or "").lower()
    if settings.profile == "local":
        if not _is_loopback(host) and host not in {name.lower() for name in settings.local_hosts}:
            allowed = " and ".join(("loopback", *settings.local_hosts))
            raise EndpointRefusedError(
                f"{service} resolves to {endpoint_url}, but FRUITS_PROFILE=local only allows {allowed}. "
                f"Set AWS_ENDPOINT_URL_{service.upper()} to the local endpoint, and unset "
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"
            )
        return
    regions = {label for label in host.split(".") if region_or_none(label)}
    if parts.scheme != "https" or not host.endswith(_AWS_DOMAINS) or regions != {settings.region}:
        raise EndpointRefusedError(
            f"{service} resolves to {endpoint_url}; with FRUITS_PROFILE=aws, expected an HTTPS address of AWS in "
            f"{settings.region}. Remove the endpoint_url of the connection {settings.aws_conn_id!r} or of the AWS "
            "config file, or set FRUITS_PROFILE=local"
        )


_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.eu", ".api.aws")


def _is_loopback(host: str) -> bool:  # as in local/emr/server.py, which must not import include
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_clients(settings: Settings) -> dict[str, str]:
    """Resolve the EMR and S3 clients as the operators do, and check the address of each.

    Returns
    -------
    dict
        Service name to resolved address.

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
