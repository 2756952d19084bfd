"""Limits of single actions, from the EMR API Reference. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from local.emr.clusters.errors import InvalidRequestError, ValidationError

MAX_TERMINATED = 10
"""«The maximum number of clusters allowed is 10» (TerminateJobFlows)."""

MAX_LISTED_STEPS = 10
"""«You can specify a maximum of 10 stepIDs» (ListSteps)."""

MAX_CANCELLED_STEPS = 256
"""Number of steps of a CancelSteps request (CancelSteps)."""

MAX_STEP_CHARACTERS = 10_240  # as in include/cluster/steps.py, which the endpoint must not import
"""«The string values passed into HadoopJarStep object cannot exceed a total of 10240 characters» (AddJobFlowSteps)."""


@contextmanager
def invalid_request() -> Iterator[None]:
    """Answer with InvalidRequestException, as the newer actions do, when a check of the older ones fails."""
    try:
        yield
    except ValidationError as error:
        raise InvalidRequestError(error.message) from None


def check_ids(field: str, ids: Sequence[str], *, limit: int | None = None) -> None:
    """Reject a list of ids that is empty, or too long, or has an empty or repeated id."""
    if not ids or not all(ids):
        raise ValidationError(f"{field} must have at least one id, and no empty id.")
    if limit is not None and len(ids) > limit:
        raise ValidationError(f"{field} can have at most {limit} ids, not {len(ids)}.")
    if len(set(ids)) < len(ids):
        raise ValidationError(f"{field} names an id twice.")


def check_listed_steps(ids: Sequence[str] | None, states: Sequence[str] | None) -> None:
    """Reject a ListSteps request with ids that are invalid, or that come together with states."""
    if ids is None:
        return
    with invalid_request():
        check_ids("StepIds", ids, limit=MAX_LISTED_STEPS)
        if states:
            raise ValidationError("StepIds and StepStates cannot be specified together.")


def check_step_strings(step: Mapping[str, Any]) -> None:
    """Reject a step whose HadoopJarStep has strings that are too long in total."""
    length = sum(map(len, _strings(step.get("HadoopJarStep"))))
    if length > MAX_STEP_CHARACTERS:
        raise ValidationError(
            f"The strings in HadoopJarStep of the step '{step.get('Name')}' have {length} characters in total: "
            f"at most {MAX_STEP_CHARACTERS} are allowed."
        )


def _strings(value: object) -> Iterator[str]:
    """Yield every string in a value of the API."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from _strings(member)
