"""What is sent again, after which pauses, and when that ends."""

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

from include.aws import retries
from include.aws.retries import THROTTLING, Patience, is_passing, is_turned_away, is_unanswered


def error(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "RunJobFlow")


TURNED_AWAY = [
    error("ThrottlingException", 400),
    error("SlowDown", 503),
    error("TooManyRequests", 429),
    EndpointConnectionError(endpoint_url="https://emr"),
    ConnectTimeoutError(endpoint_url="https://emr"),
]
UNANSWERED = [
    error("InternalServerError", 500),
    error("ServiceUnavailable", 503),
    ReadTimeoutError(endpoint_url="https://emr"),
    ConnectionClosedError(endpoint_url="https://emr"),
]
FINAL = [error("ValidationException", 400), error("AccessDeniedException", 403), NoCredentialsError(), ValueError()]


def test_throttling_is_what_botocore_itself_takes_for_it() -> None:
    assert set(ThrottledRetryableChecker._THROTTLED_ERROR_CODES) == THROTTLING


@pytest.mark.parametrize("caught", TURNED_AWAY + UNANSWERED + FINAL, ids=repr)
def test_each_error_is_of_one_kind(caught: Exception) -> None:
    assert is_turned_away(caught) is (caught in TURNED_AWAY)
    assert is_unanswered(caught) is (caught in UNANSWERED)
    assert is_passing(caught) is (caught not in FINAL)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept; time passes in no other way."""
    slept: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", slept.append)
    monkeypatch.setattr(retries.time, "monotonic", lambda: sum(slept))
    return slept


def failing(times: int, caught: Exception) -> Any:
    left = [caught] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    return call


@pytest.mark.parametrize("caught", TURNED_AWAY + UNANSWERED, ids=repr)
def test_a_passing_error_is_sat_out(clock: list[float], caught: Exception) -> None:
    assert Patience(300).repeat(failing(4, caught)) == "done"
    assert len(clock) == 4


@pytest.mark.parametrize("caught", FINAL, ids=repr)
def test_a_final_error_is_raised_at_once(clock: list[float], caught: Exception) -> None:
    with pytest.raises(type(caught)):
        Patience(300).repeat(failing(1, caught))
    assert clock == []


def test_patience_ends(clock: list[float]) -> None:
    with pytest.raises(ClientError):
        Patience(60).repeat(failing(1000, TURNED_AWAY[0]))
    assert sum(clock) == pytest.approx(60)


def test_pauses_double_within_their_bounds(clock: list[float]) -> None:
    Patience(1000, longest_pause_seconds=20).repeat(failing(8, TURNED_AWAY[0]))
    for pause, longest in zip(clock, [1, 2, 4, 8, 16, 20, 20, 20], strict=True):
        assert longest / 2 <= pause <= longest


def test_tasks_that_were_throttled_together_come_back_apart() -> None:
    assert len({next(Patience(60).pauses()) for _ in range(20)}) > 15
