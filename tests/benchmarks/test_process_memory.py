from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import memory, process

pytestmark = pytest.mark.slow  # every test starts processes

MIB = 2**20
HOLD = "import time; held = bytearray(b'x') * (64 * 2**20); print(len(held), flush=True); time.sleep({seconds})"
"""Allocates and touches 64 MiB, prints their number, and keeps them for some seconds."""


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def measured(code: str, folder: Path, **options: float) -> process.Measured:
    return process.measure(python(code), folder=folder, environment=os.environ, log_file=folder / "log", **options)


def test_memory_of_a_childs_child_counts(tmp_path: Path) -> None:
    hold = HOLD.format(seconds=1)
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {hold!r}], check=True)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {inner!r}], check=True)"
    cost = measured(outer, tmp_path)
    assert cost.output.strip() == str(64 * MIB)
    assert 64 < cost.peak_memory_mib < 200


def test_memory_of_an_orphan_in_a_session_of_its_own_counts(tmp_path: Path) -> None:
    hold = HOLD.format(seconds=1)
    # The process in between ends at once, so that the holder becomes an orphan.
    between = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {hold!r}], start_new_session=True)"
    )
    outer = f"import subprocess, sys, time; subprocess.run([sys.executable, '-S', '-c', {between!r}]); time.sleep(1.5)"
    assert measured(outer, tmp_path).peak_memory_mib > 64


def test_a_child_without_the_marker_is_found_by_its_parent() -> None:
    marker = f"test-{os.getpid()}-{time.monotonic_ns()}"
    without = f"import subprocess; subprocess.run(['sleep', '30'], env={{'PATH': {os.environ['PATH']!r}}})"
    parent = subprocess.Popen(python(without), env={**os.environ, memory.MARKER: marker}, start_new_session=True)
    try:
        tree = memory.Tree(marker)
        deadline = time.monotonic() + 30
        while len(living := tree.living()) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert parent.pid in {number for number, _ in living}
        assert len(living) == 2
        assert os.getpid() not in {number for number, _ in living}
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()


def test_shared_pages_count_once(tmp_path: Path) -> None:
    forked = (
        "import os, time\n"
        "held = bytearray(b'x') * (64 * 2**20)\n"
        "children = [os.fork() for _ in range(1)]\n"
        "time.sleep(1)\n"
        "children[0] and os.waitpid(children[0], 0)\n"
    )
    assert 64 < measured(forked, tmp_path).peak_memory_mib < 120


def test_the_peak_of_each_process_is_measured_even_between_two_samples(tmp_path: Path) -> None:
    code = "import time; held = bytearray(b'x') * (64 * 2**20); del held; time.sleep(0.5)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {code!r}], check=True)"
    peaks = {
        ("inner" if line.endswith(code) else "outer"): peak for line, peak in measured(outer, tmp_path).single_peaks_mib
    }
    assert 64 < peaks["inner"] < 100
    assert 0 < peaks["outer"] < 40


def test_processes_left_running_are_ended_outside_the_measured_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.5)
    leave = "import subprocess\nleft = subprocess.Popen(['sleep', '300'], start_new_session=True)\nprint(left.pid)\n"
    cost = measured(leave, tmp_path)
    left = Path("/proc") / cost.output.strip()
    deadline = time.monotonic() + 30
    while left.exists() and "Z" not in (left / "stat").read_text().split()[2] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left.exists() or (left / "stat").read_text().split()[2] == "Z"
    assert cost.seconds < 200


def test_a_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="exit code 3, its output ends with\nthe reason"):
        measured("import sys; print('the reason', file=sys.stderr); sys.exit(3)", tmp_path)


def test_a_command_that_hangs_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"took more than 0\.5 s, its output ends with"):
        measured("import time; print('here', flush=True); time.sleep(300)", tmp_path, time_limit_seconds=0.5)
