"""Errors that the EMR API answers with.

The actions whose service model has ``InvalidRequestException`` (DescribeCluster, ListSteps, AddTags, …) answer with it;
the older ones (RunJobFlow, AddJobFlowSteps, TerminateJobFlows, …) and malformed requests with ``ValidationException``.
"""

from __future__ import annotations

from moto.core.exceptions import ServiceException


class ValidationError(ServiceException):
    """EMR rejects the request."""

    code = "ValidationException"


class InvalidRequestError(ServiceException):
    """The request names something that does not exist, or whose state does not allow the request."""

    code = "InvalidRequestException"


class UnknownClusterError(InvalidRequestError):
    """The region has no such cluster. ``ErrorCode`` is a member of InvalidRequestException."""

    error_code = "NoSuchCluster"


def unknown_cluster(cluster_id: object) -> InvalidRequestError:
    """Return the error for an unknown cluster id."""
    return UnknownClusterError(f"Cluster id '{cluster_id}' is not valid.")


def unknown_job_flow() -> ValidationError:
    """Return the error for an unknown cluster id in an action that calls it JobFlowId."""
    return ValidationError("Specified job flow ID does not exist.")


def unknown_step(step_id: object) -> InvalidRequestError:
    """Return the error for a step id that the cluster does not have."""
    return InvalidRequestError(f"Step id '{step_id}' is not valid.")


def modified_after_end() -> ValidationError:
    """Return the error for a change of a cluster that terminates or has ended."""
    return ValidationError("A job flow that is shutting down, terminated, or finished may not be modified.")
