"""The launch of the endpoint process: its failures are explained, and Ctrl-C leaves no process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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


def test_ctrl_c_during_the_start_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def launch(*_: object, **__: object) -> subprocess.Popen[bytes]:
        launched.append(popen(["sleep", "600"]))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return launched[0]

    monkeypatch.setattr(subprocess, "Popen", launch)
    with pytest.raises(KeyboardInterrupt):
        EndpointProcess(tmp_path)
    assert [child.returncode for child in launched] == [-signal.SIGTERM]
