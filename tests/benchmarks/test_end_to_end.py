from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import end_to_end, pipeline, process
from benchmarks.table import Bench

OURS = {"rows": 7, "dimensions": 1280, "k": 3}


def step(seconds: float) -> dict[str, Any]:
    stages = {"list": 1.0, "total": 2.0}
    summary = {"images": OURS["rows"], "dimensions": OURS["dimensions"], "k": OURS["k"], "rejects": 0}
    return {"seconds": seconds, "summary": {**summary, "seconds": stages}}


def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebook: dict[str, int]) -> dict[str, Any]:
    """Measure three laps of both pipelines; each notebook lap and each step has a given duration."""
    inputs: set[str] = set()
    notebook_seconds, featurize_seconds = iter((55.0, 70.0, 60.0)), iter((4.0, 9.0, 3.0))

    def run_module(module: str, *arguments: str, **options: object) -> process.Measured:
        inputs.update(argument.partition("=")[2] for argument in arguments if argument.startswith("--images="))
        printed = {**notebook, "seconds": {"start": 10.0, "features": 40.0, "total": 50.0}}
        return process.Measured(f"a line\n{json.dumps(printed)}\n", next(notebook_seconds), 100.0)

    def featurize(bench: Bench, images: Path, name: str) -> dict[str, Any]:
        inputs.add(str(images))
        return step(next(featurize_seconds))

    monkeypatch.setattr(process, "measure_module", run_module)
    monkeypatch.setattr(pipeline, "featurize", featurize)
    monkeypatch.setattr(pipeline, "pca", lambda bench, name: step(2.0))
    bench = Bench(tmp_path / "images", 7, tmp_path, tmp_path, tmp_path / "work", "local[1]", laps=3)
    result = end_to_end.measure(bench)
    assert inputs == {str(bench.images)}, "both pipelines get the same photos"
    return result


def test_the_ratio_is_that_of_the_median_totals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = measure(tmp_path, monkeypatch, OURS)
    assert result["notebook"]["median"]["total"] == 60
    assert result["ours"]["median"]["total"] == 6
    assert result["ratio"] == 10
    assert end_to_end.lines(result)[-1] == "ours is 10.0 times faster"
    for lap in result["notebook"]["laps"]:
        assert sum(value for stage, value in lap.items() if stage != "total") == pytest.approx(lap["total"])
    for lap in result["ours"]["laps"]:
        stages = sum(value for stage, value in lap.items() if ":" in stage)
        assert stages == pytest.approx(lap["featurize"] + lap["pca"]) == pytest.approx(lap["total"])


def test_pipelines_with_different_results_are_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("rows", 6), ("dimensions", 1000), ("k", 5)):
        with pytest.raises(SystemExit, match=f"{name} differ"):
            measure(tmp_path / name, monkeypatch, {**OURS, name: value})
