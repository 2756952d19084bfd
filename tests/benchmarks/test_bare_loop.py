from __future__ import annotations

import multiprocessing
import queue
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from benchmarks import bare_loop

PATHS = [f"{number}.jpg" for number in range(100)]


def run_work(processes: int) -> list[tuple[str, float, float]]:
    """Run the work of several processes in threads of this process."""
    context = multiprocessing.get_context("spawn")
    ended: Any = queue.SimpleQueue()
    nexts = {name: context.Value("q", 0) for name in bare_loop.LOOPS}
    barrier: Any = threading.Barrier(processes)
    threads = [
        threading.Thread(target=bare_loop.work, args=(PATHS, b"", barrier, nexts, ended)) for _ in range(processes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ended.get_nowait() for _ in range(ended.qsize())]


def test_each_loop_processes_each_photo_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: Counter[tuple[str, str]] = Counter()
    lock = threading.Lock()

    def make(name: str) -> Any:
        def featurize(path: str) -> np.ndarray:
            with lock:
                taken[name, path] += 1
            return np.zeros(3)

        return lambda flatbuffer: featurize

    monkeypatch.setattr(bare_loop, "LOOPS", {name: make(name) for name in ("plain", "jobs")})
    ended = run_work(processes=2)
    assert sorted(name for name, _, _ in ended) == ["jobs", "jobs", "plain", "plain"]
    assert all(begin <= end for _, begin, end in ended)
    warm_up = dict.fromkeys(PATHS[: bare_loop.WARM_UP], 2)
    assert taken == {(name, path): 1 + warm_up.get(path, 0) for name in ("plain", "jobs") for path in PATHS}


def test_loops_with_different_features_fail_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    loops = {"plain": lambda flatbuffer: lambda path: np.zeros(3), "jobs": lambda flatbuffer: lambda path: np.ones(3)}
    monkeypatch.setattr(bare_loop, "LOOPS", loops)
    with pytest.raises(SystemExit, match=r"different features of 0\.jpg"):
        bare_loop.work(PATHS, b"", threading.Barrier(1), {}, queue.SimpleQueue())  # type: ignore[arg-type]
