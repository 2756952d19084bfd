"""Patience with an API: what may be sent again, after which pause, and for how long.

botocore repeats requests by itself, also those that make something and have no idempotency token, and knows nothing of
what came of them. Here each request is sent once, and its caller says what may be repeated.
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

THROTTLING = frozenset(
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
"""Error codes that mean «later»: those of botocore's own retry handler (``botocore.retries.standard``)."""

SINGLE_ATTEMPT = {"retries": {"total_max_attempts": 1}}
"""Configuration of a botocore client that sends each request once."""


def is_turned_away(error: Exception) -> bool:
    """Whether a request was not taken for now: it was throttled, or did not get through. It has had no effect."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in THROTTLING or _status(error) == 429
    return isinstance(error, NotConnectedError)


def is_unanswered(error: Exception) -> bool:
    """Whether nobody knows what came of a request: there was no answer, or the service failed within."""
    if isinstance(error, ClientError):
        return _status(error) >= 500 and not is_turned_away(error)
    return isinstance(error, HTTPClientError) and not is_turned_away(error)


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def is_passing(error: Exception) -> bool:
    """Whether a request that changes nothing, or that may be done twice, is worth sending again."""
    return is_turned_away(error) or is_unanswered(error)


def sit_out(error: Exception, pauses: Iterator[float]) -> bool:
    """Pause before a request is sent again; whether it is to be: the error passes, and patience has not ended."""
    pause = next(pauses, None) if is_passing(error) else None
    if pause is None:
        return False
    log.warning("%s; once more in %.1f s", error, pause)
    time.sleep(pause)
    return True


@dataclass(frozen=True)
class Patience:
    """How long to go on, and how long to pause in between.

    Parameters
    ----------
    seconds : float
        After so long, the last error counts.
    longest_pause_seconds : float
        Pauses double up to this. Each is drawn between half of itself and the whole, so that tasks that were
        throttled together do not come back together.
    """

    seconds: float
    longest_pause_seconds: float = 20.0

    def repeat(self, call: Callable[[], T]) -> T:
        """Call until it succeeds, fails for another reason, or patience has ended.

        Parameters
        ----------
        call : callable
            The request, sent once.

        Raises
        ------
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
            The last error.
        """
        pauses = self.pauses()
        while True:
            try:
                return call()
            except (ClientError, HTTPClientError, NotConnectedError) as error:
                if not sit_out(error, pauses):
                    raise

    def pauses(self) -> Iterator[float]:
        """Yield pauses in seconds until patience ends; the clock starts with the first."""
        deadline, pause = time.monotonic() + self.seconds, 1.0
        while (left := deadline - time.monotonic()) > 0:
            wanted = min(pause, self.longest_pause_seconds)
            yield min(left, wanted * random.uniform(0.5, 1.0))
            pause *= 2
