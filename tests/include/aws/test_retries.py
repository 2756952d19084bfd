"""Which errors are retried, after which pauses, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.retries.standard import ThrottledRetryableChecker

from include.aws.retries import THROTTLING_CODES, RetryPolicy, is_outcome_unknown, is_transient, is_unprocessed


def error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "RunJobFlow")


UNPROCESSED = [
    error("ThrottlingException", 400),
    error("SlowDown", 503),
    error("TooManyRequests", 429),
    EndpointConnectionError(endpoint_url="https://emr"),
    ConnectTimeoutError(endpoint_url="https://emr"),
]
UNKNOWN = [
    error("InternalServerError", 500),
    error("ServiceUnavailable", 503),
    ReadTimeoutError(endpoint_url="https://emr"),
    ConnectionClosedError(endpoint_url="https://emr"),
]
FINAL = [error("ValidationException", 400), error("AccessDeniedException", 403), NoCredentialsError(), ValueError()]


def test_throttling_codes_are_those_of_botocore() -> None:
    assert set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES) == THROTTLING_CODES


def test_each_error_is_of_one_kind() -> None:
    for caught in UNPROCESSED + UNKNOWN + FINAL:
        assert is_unprocessed(caught) is (caught in UNPROCESSED), caught
        assert is_outcome_unknown(caught) is (caught in UNKNOWN), caught
        assert is_transient(caught) is (caught not in FINAL), caught


def failing(times: int, caught: Exception) -> Any:
    left = [caught] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    return call


def test_transient_errors_are_retried(clock: list[float]) -> None:
    for caught in UNPROCESSED + UNKNOWN:
        clock.clear()
        assert RetryPolicy(300).call(failing(4, caught)) == "done"
        assert len(clock) == 4


def test_other_errors_are_raised_at_once(clock: list[float]) -> None:
    for caught in FINAL:
        with pytest.raises(type(caught)):
            RetryPolicy(300).call(failing(1, caught))
    assert clock == []


def test_retries_stop_at_the_timeout(clock: list[float]) -> None:
    with pytest.raises(ClientError):
        RetryPolicy(60).call(failing(1000, UNPROCESSED[0]))
    assert sum(clock) == pytest.approx(60)


def test_pauses_double_up_to_the_longest(clock: list[float]) -> None:
    RetryPolicy(1000, longest_pause_seconds=20).call(failing(8, UNPROCESSED[0]))
    for pause, longest in zip(clock, [1, 2, 4, 8, 16, 20, 20, 20], strict=True):
        assert longest / 2 <= pause <= longest


def test_tasks_that_were_throttled_together_retry_at_different_times() -> None:
    assert len({next(RetryPolicy(60).pauses()) for _ in range(20)}) > 15
