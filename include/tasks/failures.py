"""Errors after which Airflow must not retry a task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from airflow.sdk.exceptions import AirflowFailException

from include.artifacts.wheels import WheelhouseError
from include.aws.endpoints import EndpointRefusedError
from include.cost.forecast import CostCapError
from include.cost.prices import PriceTableError
from include.erasure.errors import NoStateError, NothingFoundError, NothingLeftError
from include.erasure.request import RequestError
from include.lake.access import AccessRefusedError
from include.lake.commit import ConflictError
from include.lake.models import ModelError
from include.lake.state import DamagedLakeError
from include.lake.verification import VerificationError
from include.residency.checks import ResidencyError
from include.settings.deployment import SettingsError
from spark_jobs.errors import JobError

P = ParamSpec("P")
T = TypeVar("T")


PERMANENT_ERRORS = (
    *(SettingsError, EndpointRefusedError, AccessRefusedError, ModelError, VerificationError),
    *(ResidencyError, WheelhouseError, PriceTableError, CostCapError, DamagedLakeError, ConflictError, JobError),
    *(RequestError, NoStateError, NothingFoundError, NothingLeftError),
)
"""Errors that a retry cannot fix."""


def without_retry(body: Callable[P, T]) -> Callable[P, T]:
    """Make a task fail at once, without Airflow's retries, on any of the :data:`PERMANENT_ERRORS`."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return body(*args, **kwargs)
        except PERMANENT_ERRORS as error:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error

    return run
