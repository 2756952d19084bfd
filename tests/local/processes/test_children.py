"""A child process that a thread starts: no interrupt at any moment leaves it running."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable

import pytest

from local.processes.children import start_in_thread


class Child:
    """A process that is launched once, and stopped by SIGKILL."""

    def __init__(self, during_launch: Callable[[], object] = lambda: None) -> None:
        self.launches = 0
        self._during_launch = during_launch
        self.process: subprocess.Popen[bytes]

    def launch(self) -> subprocess.Popen[bytes]:
        self.launches += 1
        self.process = subprocess.Popen(["sleep", "600"])
        self._during_launch()
        return self.process

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def interrupt() -> None:
    """Send SIGINT to the main thread, as Ctrl-C does."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_the_child_outlives_a_block_that_succeeds() -> None:
    child = Child()
    with start_in_thread(child.launch, name="child", stop=child.stop):
        assert child.process.poll() is None
    assert child.process.poll() is None
    child.stop()


def test_an_interrupt_during_the_launch_stops_the_child() -> None:
    child = Child(during_launch=interrupt)
    with pytest.raises(KeyboardInterrupt), start_in_thread(child.launch, name="child", stop=child.stop):
        pytest.fail("the block runs although the launch was interrupted")
    assert child.process.returncode == -signal.SIGKILL


def test_an_interrupt_in_the_block_stops_the_child() -> None:
    child = Child()
    with pytest.raises(KeyboardInterrupt), start_in_thread(child.launch, name="child", stop=child.stop):
        interrupt()
    assert child.process.returncode == -signal.SIGKILL


def test_an_interrupt_before_the_launch_prevents_it(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child()
    threads: list[threading.Thread] = []
    start = threading.Thread.start

    def interrupted_start(thread: threading.Thread) -> None:
        threads.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt), start_in_thread(child.launch, name="child", stop=child.stop):
        pytest.fail("the block runs although the start was interrupted")
    start(threads[0])
    threads[0].join()
    assert child.launches == 0


def test_the_exception_of_a_launch_is_raised_and_nothing_is_stopped() -> None:
    def launch() -> subprocess.Popen[bytes]:
        raise FileNotFoundError("no such program")

    with (
        pytest.raises(FileNotFoundError, match="no such program"),
        start_in_thread(launch, name="child", stop=lambda: pytest.fail("there is no process to stop")),
    ):
        pytest.fail("the block runs although the launch failed")
