from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.accuracy import OURS, TEXTBOOK
from benchmarks.table import Bench


def exact(values: list[float]) -> accuracy.Fit:
    return np.array(values) / sum(values), np.eye(len(values)), values[-1] / values[0]


def test_errors_of_a_rotated_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "AXES", 2)
    reference = exact([5, 3, 1, 1])
    angle = 1e-3
    turned = np.eye(4)
    turned[1, 1:3] = np.cos(angle), np.sin(angle)
    turned[2, 1:3] = -np.sin(angle), np.cos(angle)
    found = accuracy.errors((reference[0] + [0, 0, 1e-4, -2e-4], turned, -0.5), reference)
    assert found["ratio_error"] == pytest.approx(2e-4)
    assert found["sine_of_angle"] == pytest.approx(np.sin(angle))
    assert found["least_eigenvalue"] == -0.5
    # Signs and rotations within the plane are no errors.
    within = np.eye(4)
    within[:2, :2] = [[0.6, 0.8], [0.8, -0.6]]
    assert accuracy.errors((reference[0], within, 0.2), reference)["sine_of_angle"] < 1e-15


def test_the_reference_is_right_where_doubles_are_not() -> None:
    deviations = np.array([[1.0, 2.0], [-1.0, 0.0], [0.0, -2.0]])
    mean = 2.0**40  # the sums with the deviations are exact; in the square, the deviations' squares are lost
    np.testing.assert_array_equal(accuracy.covariance_in_longdouble(deviations + mean), [[1, 1], [1, 4]])


def side(ratio_error: float, least: float = 0.0) -> dict[str, float]:
    return {"ratio_error": ratio_error, "sine_of_angle": 0.0, "least_eigenvalue": least}


def test_our_result_must_not_be_worse_than_the_textbook_formula() -> None:
    accuracy.check(1e3, {OURS: side(1e-12), TEXTBOOK: side(1e-9)})
    accuracy.check(1.0, {OURS: side(2e-16), TEXTBOOK: side(1e-16)})
    for sides in ({OURS: side(1e-8), TEXTBOOK: side(1e-9)}, {OURS: side(0, -1e-20), TEXTBOOK: side(1e-9)}):
        with pytest.raises(SystemExit, match=r"our result is wrong at a mean of 1000\.0"):
            accuracy.check(1e3, sides)


def test_ours_stays_accurate_where_the_textbook_formula_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "ROWS", 500)
    textbook = lambda bench, files: [accuracy.textbook(np.load(file)) for file in files]  # noqa: E731
    monkeypatch.setattr(accuracy, "fit_with_spark", textbook)
    result = accuracy.measure(Bench(tmp_path, 0, tmp_path, tmp_path, tmp_path, "local[1]"))
    last = result["means"][-1]
    assert last["mean_over_deviation"] == 1e6
    assert last["sides"][OURS]["ratio_error"] < 1e-9
    assert last["sides"][TEXTBOOK]["ratio_error"] > 1e-6
    assert last["sides"][accuracy.SPARK_ML] == last["sides"][TEXTBOOK], "both sides get the same features"


def test_the_table_names_variances_below_zero() -> None:
    sides = {OURS: side(1e-16), TEXTBOOK: side(3e-3, -0.01)}
    table = accuracy.lines({"axes": 10, "means": [{"mean_over_deviation": 1e6, "sides": sides}]})
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[0][1] == "1,000,000"
    assert cells[2:] == [[OURS, "1e-16 / 0e+00"], [TEXTBOOK, "3e-03 / 0e+00 (variances < 0)"]]
