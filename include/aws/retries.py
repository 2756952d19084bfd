"""Retries of AWS requests: which errors are transient, how long to pause, and when to give up.

botocore retries requests itself, including requests that create something and have no idempotency token; it cannot find
out whether the failed attempt had an effect. Therefore clients send each request once, and the caller decides what to
retry. Not built on tenacity: between an error and the pause, callers must check what the failed request has done
(:meth:`include.emr.client.Emr.find_or_create_cluster`), and the timeout counts from the first failure.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnectedError

log = logging.getLogger(__name__)

T = TypeVar("T")

THROTTLING_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Error codes of throttling, as in botocore's own retry handler (``botocore.retries.standard``)."""

SINGLE_ATTEMPT = {"retries": {"total_max_attempts": 1}}
"""Configuration of a botocore client that does not retry."""


def is_unprocessed(error: Exception) -> bool:
    """Whether the service certainly did not process a request: it was throttled, or the connection failed."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in THROTTLING_CODES or _status(error) == 429
    return isinstance(error, NotConnectedError)


def is_outcome_unknown(error: Exception) -> bool:
    """Whether a request may have had an effect: there was no response, or an internal error of the service."""
    if isinstance(error, ClientError):
        return _status(error) >= 500 and not is_unprocessed(error)
    return isinstance(error, HTTPClientError) and not is_unprocessed(error)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def is_transient(error: Exception) -> bool:
    """Whether a retry may succeed. Only idempotent requests may be retried without checking their effect first."""
    return is_unprocessed(error) or is_outcome_unknown(error)


def pause_before_retry(error: Exception, pauses: Iterator[float]) -> bool:
    """Pause if the error is transient and the retry timeout has not passed; return whether to retry."""
    pause = next(pauses, None) if is_transient(error) else None
    if pause is None:
        return False
    log.warning("%s; retrying in %.1f s", error, pause)
    time.sleep(pause)
    return True


@dataclass(frozen=True)
class RetryPolicy:
    """How long to retry, with exponential backoff.

    Parameters
    ----------
    timeout_seconds : float
        Time from the first failure after which the last error is raised.
    longest_pause_seconds : float
        Pauses double from 1 s up to this. Each is drawn between half of its length and the full length, so that tasks
        that were throttled together do not retry together.
    """

    timeout_seconds: float
    longest_pause_seconds: float = 20.0

    def call(self, request: Callable[[], T]) -> T:
        """Send an idempotent request until it succeeds, fails for good, or the timeout has passed.

        Parameters
        ----------
        request : callable
            Sends the request once.

        Raises
        ------
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
            The last error.
        """
        pauses = self.pauses()
        while True:
            try:
                return request()
            except (ClientError, HTTPClientError, NotConnectedError) as error:
                if not pause_before_retry(error, pauses):
                    raise

    def pauses(self) -> Iterator[float]:
        """Yield the pauses in seconds until the timeout has passed; the clock starts with the first pause."""
        deadline, pause = time.monotonic() + self.timeout_seconds, 1.0
        while (left := deadline - time.monotonic()) > 0:
            longest = min(pause, self.longest_pause_seconds)
            yield min(left, longest * random.uniform(0.5, 1.0))
            pause *= 2
