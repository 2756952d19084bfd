from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import pipeline, process
from benchmarks.pca import checks, comparison, sides
from benchmarks.pca.ours import check_moments
from benchmarks.table import Bench

EIGH = next(side for side in sides.SCIKIT_LEARN if side.variant == "covariance_eigh-float64")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    work = tmp_path / "pca"
    pipeline.write_code(work)
    return Bench(tmp_path, 0, tmp_path, tmp_path, work, "local[2]", laps=1, sizes=(300,))


@pytest.mark.soak  # it runs four sessions and two whole steps
def test_ours_and_scikit_learn_are_measured_and_agree_with_the_reference(bench: Bench) -> None:
    measured = (sides.RAW, sides.STORED, EIGH)
    result = comparison.measure(bench, measured, dimensions=24)
    assert (result["images"], result["dimensions"]) == (300, 24)
    assert list(result["sides"]) == ["ours-raw", "ours-stored", "scikit_learn-covariance_eigh-float64"]
    for side in result["sides"].values():
        assert side["warm_seconds"] > 0
        assert side["largest_difference"]["score"] < 1e-12
        assert side["peak_memory_mib"] > 50
    assert result["sides"]["ours-raw"]["peak_memory_mib"] > 200, "the memory includes a JVM"
    for step in result["steps"].values():
        assert step["seconds"] > step["stages"]["total"] > 0
    assert [goal["rival"] for goal in result["goals"]] == [EIGH.name] * 2
    shown = comparison.lines(result)
    assert sum(line.startswith("| ours") for line in shown) == 2
    assert sum("the whole step" in line for line in shown[:8]) == 2
    left = {path.name for path in bench.work.iterdir() if path.is_dir()}
    assert left <= {"code", "runs", "scratch"}


def test_a_wrong_lap_names_its_side_and_session(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def differ(*_: object, **options: bool) -> None:
        raise ValueError("a score differs")

    laps = [{"seconds": 1.0, "ratio": [1.0]}]
    measured = process.Measured(json.dumps({"start_seconds": 1.0, "laps": laps}), 3.0, 100.0)
    monkeypatch.setattr(process, "measure_module", lambda *_, **options: measured)
    monkeypatch.setattr(checks, "check", differ)
    expected = checks.Reference(np.ones(1), {}, [], np.ones((1, 1)), np.ones(1))
    with pytest.raises(SystemExit, match=r"scikit-learn, covariance_eigh, float64, session 2, lap 1: a score differs"):
        comparison.run_session(bench, EIGH, {}, expected, 2)


def test_moments_from_another_source_than_the_variants_are_refused() -> None:
    wrong: list[tuple[str, int, dict[str, str]]] = [
        ("stored", 1, {"b": "no digest"}),
        ("stored", 0, {}),
        ("raw", 1, {}),
    ]
    for variant, stored, computed in wrong:
        with pytest.raises(SystemExit, match=f"{variant}: used the stored moments of {stored} files"):
            check_moments(variant, stored=stored, computed=computed)


def side_of(side: sides.Side, warm: float) -> dict[str, Any]:
    laps = [
        {"seconds": seconds, "stages": {"fit": seconds / 2}, "difference": {"ratio": 1e-15, "score": 2e-14}}
        for seconds in (3 * warm, warm, 0.9 * warm)
    ]
    sessions = [{"start_seconds": 1.0, "laps": laps, "peak_memory_mib": 500, "seconds": 9.0}] * 3
    return comparison.summarize(side, sessions)


def table(raw: float, stored: float, spark: float, scikit_learn: float) -> dict[str, Any]:
    full, inexact = (
        next(side for side in sides.SCIKIT_LEARN if side.variant == variant)
        for variant in ("full-float64", "covariance_eigh-float32")
    )
    by_key = {
        side.key: side_of(side, warm)
        for side, warm in (
            (sides.RAW, raw),
            (sides.STORED, stored),
            (sides.SPARK_ML[0], spark),
            (sides.SPARK_ML[1], 2 * spark),
            (sides.SPARK_ML[2], spark / 3),
            (EIGH, scikit_learn),
            (full, 5 * scikit_learn),
            (inexact, scikit_learn / 2),
        )
    }
    step = {"seconds": 7.5, "peak_memory_mib": 800, "stages": {"fit": 0.4}, "laps_seconds": [7.5]}
    figures = {"images": 40_000, "dimensions": 1280, "k": 45, "sessions": 3, "steps": {"raw": step, "stored": step}}
    return {**figures, "sides": by_key, "goals": sides.judge(by_key)}


def test_goals_compare_with_the_fastest_exact_side_without_added_libraries() -> None:
    goals = table(raw=2.25, stored=1.6, spark=12.8, scikit_learn=1.5)["goals"]
    assert [(goal["rival"], goal["times"], goal["reached"]) for goal in goals] == [
        ("Spark ML, plain", 5.689, True),
        (EIGH.name, 0.667, True),
        ("Spark ML, plain", 8.0, True),
        (EIGH.name, 0.938, False),
    ]


def test_the_table_shows_every_side_and_missed_goals() -> None:
    shown = comparison.lines(table(raw=2.0, stored=1.6, spark=12.0, scikit_learn=1.5))
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in shown if "|" in line
    }
    assert rows["Spark ML, plain"] == ["1.00", "36.00", "12.00", "10.80", "500", "2e-14", "6.00", "7.50"]
    assert rows["the whole step, raw: with start, model, CSV and certificate"][1] == "7.50"
    assert [line.rpartition(": ")[2] for line in shown[-6:-2]] == ["reached", "reached", "MISSED", "MISSED"]
    assert "ours, from raw features: 2.00 times as fast as Spark ML, cached, OpenBLAS added" in shown[-2]
    assert "ours, from stored moments: 2.50 times as fast as Spark ML, cached, OpenBLAS added" in shown[-1]


def test_only_float64_without_approximation_is_compared() -> None:
    exact = {side.key for side in sides.SIDES if not side.exact}
    assert exact == {
        "scikit_learn-covariance_eigh-float32",
        "scikit_learn-full-float32",
        "scikit_learn-auto-float64",
        "scikit_learn-auto-float32",
    }
    assert len({side.key for side in sides.SIDES}) == len(sides.SIDES)
