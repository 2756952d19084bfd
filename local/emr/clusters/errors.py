"""Errors that the EMR API answers with."""

from __future__ import annotations

from moto.core.exceptions import ServiceException


class ValidationError(ServiceException):
    """EMR rejects the request."""

    code = "ValidationException"


class InvalidRequestError(ServiceException):
    """The request names something that does not exist, or whose state does not allow the request."""

    code = "InvalidRequestException"


def unknown_cluster(cluster_id: object) -> InvalidRequestError:
    """Return the error for an unknown cluster id."""
    return InvalidRequestError(f"Cluster id '{cluster_id}' is not valid.")


def unknown_step(step_id: object) -> InvalidRequestError:
    """Return the error for a step id that the cluster does not have."""
    return InvalidRequestError(f"Step id '{step_id}' is not valid.")
