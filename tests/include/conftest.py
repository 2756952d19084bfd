"""Fixtures that tests of several packages of include use."""

from __future__ import annotations

import threading
import time

import pytest


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses in seconds; time passes only while this thread sleeps. Other threads keep the real clock."""
    pauses: list[float] = []
    thread, sleep, monotonic = threading.current_thread(), time.sleep, time.monotonic

    def fake_sleep(seconds: float) -> None:
        if threading.current_thread() is thread:
            pauses.append(seconds)
        else:
            sleep(seconds)

    monkeypatch.setattr(time, "sleep", fake_sleep)
    monkeypatch.setattr(time, "monotonic", lambda: sum(pauses) if threading.current_thread() is thread else monotonic())
    return pauses
