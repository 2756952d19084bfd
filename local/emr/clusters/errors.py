"""Errors that the EMR API answers with."""

from __future__ import annotations

from moto.core.exceptions import ServiceException


class ValidationError(ServiceException):
    """The request is not one that EMR takes."""

    code = "ValidationException"


class InvalidRequestError(ServiceException):
    """The request names something that is not there, or that is in a state that does not allow it."""

    code = "InvalidRequestException"


def unknown_cluster(cluster_id: object) -> InvalidRequestError:
    """Return the error for a cluster id that EMR does not know."""
    return InvalidRequestError(f"Cluster id '{cluster_id}' is not valid.")


def unknown_step(step_id: object) -> InvalidRequestError:
    """Return the error for a step id that its cluster does not have."""
    return InvalidRequestError(f"Step id '{step_id}' is not valid.")
