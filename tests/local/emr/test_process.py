"""The launch of the endpoint process: its failures are explained, and Ctrl-C leaves no process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.emr import process
from local.emr.process import EndpointProcess


def test_a_state_directory_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(RuntimeError, match=r"did not come up .*File exists.*check the state directory .*state and"):
        EndpointProcess(tmp_path / "state")


def test_a_missing_interpreter_is_named_with_the_end_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endpoint.log").write_text("earlier output\n")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(RuntimeError, match=rf"(?s)check .* interpreter {tmp_path}/python; .*log:\nearlier output"):
        EndpointProcess(tmp_path)


@pytest.mark.parametrize("moment", ["before the launch", "during the launch"])
def test_ctrl_c_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    launching = threading.Event()
    launched: list[Any] = []
    threads: list[threading.Thread] = []
    popen = subprocess.Popen

    def slow_popen(*_: Any, **__: Any) -> Any:
        launching.set()
        time.sleep(0.1)
        launched.append(popen(["sleep", "600"]))
        return launched[0]

    def start_interrupted(start: Callable[[], Any], *, name: str) -> Any:
        threads.append(threading.Thread(target=start, name=name))
        if moment == "during the launch":
            threads[0].start()
            launching.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", slow_popen)
    monkeypatch.setattr(process, "start_in_thread", start_interrupted)
    with pytest.raises(KeyboardInterrupt):
        EndpointProcess(tmp_path)
    if moment == "before the launch":
        monkeypatch.setattr(threading, "excepthook", lambda _: None)  # the thread ends with CancelledError
        threads[0].start()
    threads[0].join()
    assert [child.poll() is None for child in launched] == ([False] if moment == "during the launch" else [])
