"""Working ahead: order, bounds, errors and ends are those of the iterable itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from spark_jobs.images import prefetch


def test_the_items_come_in_their_order() -> None:
    with prefetch.ahead(iter(range(500)), 3) as items:
        assert list(items) == list(range(500))


def test_no_more_are_made_than_asked_for() -> None:
    made: list[int] = []
    waiting = threading.Event()

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                waiting.set()
            yield number

    with prefetch.ahead(numbers(), 2) as items:
        assert next(items) == 0
        assert waiting.wait(10)
        time.sleep(0.05)
        assert made == [0, 1, 2, 3]  # one taken, two that wait, one in hand


def test_items_are_made_before_they_are_asked_for() -> None:
    begun = threading.Event()

    def numbers() -> Iterator[int]:
        begun.set()
        yield 1

    with prefetch.ahead(numbers(), 1) as items:
        assert begun.wait(10)
        assert list(items) == [1]


def test_an_error_is_raised_in_its_place() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the store is gone")

    with prefetch.ahead(numbers(), 5) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(OSError, match="the store is gone"):
            next(items)


@pytest.mark.parametrize("taken", [0, 1, 7])
def test_leaving_early_ends_the_iterable_and_the_thread(taken: int) -> None:
    closed = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    before = threading.active_count()
    with prefetch.ahead(numbers(), 2) as items:
        for _ in range(taken):
            next(items)
    assert closed.is_set()
    assert threading.active_count() == before
