from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import pipeline, process
from benchmarks.rivals import checks, comparison, environments
from benchmarks.rivals.comparison import Lap
from benchmarks.table import Bench
from spark_jobs.args import FEATURES_FILE, SEGMENTS_FOLDER

NAMES = ("Apple Braeburn/0.jpg", "Lemon/0.jpg", "Lemon/1.jpg")
IMAGES = Path("/photos/all")


@pytest.fixture
def features() -> checks.Features:
    vectors = np.random.default_rng(0).uniform(0, 6, (3, 1280)).astype(np.float32)
    return checks.Features(NAMES, tuple(name.split("/")[0] for name in NAMES), vectors)


def write(
    folder: Path, features: checks.Features, *, prefix: str = "file:///photos/all/", vectors: pa.Array | None = None
) -> None:
    folder.mkdir()
    column = pa.array(list(features.vectors), pa.list_(pa.float32())) if vectors is None else vectors
    paths = [prefix + name for name in features.names]
    table = pa.table({"path": paths, "label": list(features.labels), "features": column})
    pq.write_table(table, folder / "part-0.parquet")


def test_paths_with_every_scheme_are_read(tmp_path: Path, features: checks.Features) -> None:
    for number, prefix in enumerate(("/photos/all/", "file:/photos/all/", "file:///photos/all/")):
        write(tmp_path / str(number), features, prefix=prefix)
        found = checks.read(tmp_path / str(number), IMAGES)
        assert found.names == NAMES
        np.testing.assert_array_equal(found.vectors, features.vectors)
        checks.check(found, frozenset(NAMES))
        assert checks.difference(found, features) == 0


def test_a_url_encoded_path_is_read(tmp_path: Path, features: checks.Features) -> None:
    folder = Path("/my photos")
    quoted = replace(features, names=tuple(quote(name) for name in NAMES))
    write(tmp_path / "out", quoted, prefix="file:///my%20photos/")
    assert checks.read(tmp_path / "out", folder).names == NAMES


def test_large_lists_are_read(tmp_path: Path, features: checks.Features) -> None:
    write(tmp_path / "out", features, vectors=pa.array(list(features.vectors), pa.large_list(pa.float32())))
    np.testing.assert_array_equal(checks.read(tmp_path / "out", IMAGES).vectors, features.vectors)


def test_other_paths_are_refused(tmp_path: Path, features: checks.Features) -> None:
    write(tmp_path / "out", features, prefix="/elsewhere/")
    with pytest.raises(ValueError, match=r"/elsewhere/Apple Braeburn/0.jpg is not below /photos/all"):
        checks.read(tmp_path / "out", IMAGES)


def test_other_lengths_are_refused(tmp_path: Path, features: checks.Features) -> None:
    write(
        tmp_path / "out", features, vectors=pa.array([[1.0] * 1280, [1.0] * 1000, [1.0] * 1280], pa.list_(pa.float32()))
    )
    with pytest.raises(ValueError, match=r"lengths \{1280: 2, 1000: 1\}, expected 1280"):
        checks.read(tmp_path / "out", IMAGES)


def test_other_types_and_missing_values_are_refused(tmp_path: Path, features: checks.Features) -> None:
    wrong = (
        pa.array([[1.0] * 1280] * 3, pa.list_(pa.float64())),
        pa.array([[1.0] * 1280, None, [1.0] * 1280], pa.list_(pa.float32())),
        pa.array([[1.0] * 1280, [None] * 1280, [1.0] * 1280], pa.list_(pa.float32())),
        pa.array(["1", "2", "3"]),
    )
    for number, vectors in enumerate(wrong):
        write(tmp_path / str(number), features, vectors=vectors)
        with pytest.raises(ValueError, match="float32"):
            checks.read(tmp_path / str(number), IMAGES)


def test_a_missing_row_is_refused(features: checks.Features) -> None:
    found = checks.Features(features.names[:2], features.labels[:2], features.vectors[:2])
    with pytest.raises(ValueError, match=r"1 rows missing, the first is Lemon/1.jpg"):
        checks.check(found, frozenset(NAMES))


def test_a_row_without_a_photo_is_refused(features: checks.Features) -> None:
    with pytest.raises(ValueError, match=r"1 rows without a photo, the first is Lemon/1.jpg"):
        checks.check(features, frozenset(NAMES[:2]))


def test_a_duplicated_path_is_refused(features: checks.Features) -> None:
    rows = [0, 1, 2, 1]
    found = checks.Features(
        tuple(features.names[row] for row in rows),
        tuple(features.labels[row] for row in rows),
        features.vectors[rows],
    )
    with pytest.raises(ValueError, match=r"1 rows duplicated, the first is Lemon/0.jpg"):
        checks.check(found, frozenset(NAMES))


def test_a_wrong_label_is_refused(features: checks.Features) -> None:
    with pytest.raises(ValueError, match=r"1 rows with a wrong label, the first is Apple Braeburn/0.jpg"):
        checks.check(replace(features, labels=("Lemon",) * 3), frozenset(NAMES))


def test_a_value_that_is_not_finite_is_refused(features: checks.Features) -> None:
    for value in (np.nan, np.inf):
        features.vectors[1, 7] = value
        with pytest.raises(ValueError, match=r"1 rows with values that are not finite, the first is Lemon/0.jpg"):
            checks.check(features, frozenset(NAMES))


def test_rows_are_compared_by_path_in_any_order(features: checks.Features) -> None:
    rows = [2, 0, 1]
    found = checks.Features(
        tuple(NAMES[row] for row in rows), tuple(features.labels[row] for row in rows), features.vectors[rows].copy()
    )
    assert checks.difference(found, features) == 0
    found.vectors[0, 3] += 1e-4
    assert checks.difference(found, features) == pytest.approx(1e-4, rel=0.01)


def test_one_wrong_value_is_refused(features: checks.Features) -> None:
    found = replace(features, vectors=features.vectors.copy())
    found.vectors[1, 1279] += 3e-4
    with pytest.raises(
        ValueError, match=r"features of Lemon/0.jpg differ from ours by 3.0e-04, expected at most 2e-04"
    ):
        checks.difference(found, features)


def test_vectors_of_other_photos_are_refused(features: checks.Features) -> None:
    with pytest.raises(ValueError, match="of 3 photos differ by more"):
        checks.difference(replace(features, vectors=np.roll(features.vectors, 1, axis=0)), features)


def test_the_marginal_rate_excludes_the_fixed_cost() -> None:
    assert comparison.marginal_rate({960: 10 + 960 / 60, 4800: 10 + 4800 / 60}) == 60.0
    assert comparison.marginal_rate({960: 12.0}) is None
    assert comparison.marginal_rate({48: 12.0, 96: 11.5}) is None


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Three photos, and a stand-in for each side that writes the same features."""
    images = tmp_path / "images"
    for name in NAMES:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).write_bytes(b"photo")
    bench = Bench(images, 3, tmp_path, tmp_path, tmp_path / "work", "local[1]", laps=1, sizes=(2, 5))

    def featurize(bench: Bench, images: Path, name: str) -> dict[str, float]:
        segment = pipeline.run_folder(bench, name) / SEGMENTS_FOLDER / "a"
        write_lap(segment, images)
        (segment / "part-0.parquet").rename(segment / FEATURES_FILE)
        (segment / "segment.json").write_text("{}")
        return {"seconds": 1.0 + len(list(images.rglob("*.jpg"))), "peak_memory_mib": 100.0}

    def run_module(module: str, *arguments: str, log_file: Path, **options: object) -> process.Measured:
        options = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
        log_file.touch()
        write_lap(Path(str(options["output"])), Path(str(options["images"])))
        return process.Measured("", 3.0 + 4.0 * len(list(Path(str(options["images"])).rglob("*.jpg"))), 200.0)

    monkeypatch.setattr(environments, "installed", lambda name: Path(sys.executable))
    monkeypatch.setattr(environments, "versions", lambda python, packages: {})
    monkeypatch.setattr(pipeline, "featurize", featurize)
    monkeypatch.setattr(process, "measure_module", run_module)
    return bench


def write_lap(output: Path, images: Path, vector: float = 1.0) -> None:
    names = tuple(sorted(path.relative_to(images).as_posix() for path in images.rglob("*.jpg")))
    vectors = np.full((len(names), 1280), vector, np.float32)
    if output.exists():
        output.rmdir()
    output.parent.mkdir(parents=True, exist_ok=True)
    write(output, checks.Features(names, tuple(name.split("/")[0] for name in names), vectors), prefix=f"{images}/")


def test_all_sides_are_measured_and_checked(bench: Bench) -> None:
    result = comparison.measure(bench)
    assert list(result["sides"]) == [side.key for side in comparison.SIDES]
    for key, side in result["sides"].items():
        ours = key == comparison.OURS.key
        assert {size: each["seconds"] for size, each in side["sizes"].items()} == (
            {"2": 3.0, "5": 6.0} if ours else {"2": 11.0, "5": 23.0}
        )
        assert side["marginal_images_per_second"] == (1.0 if ours else 0.2)
        assert [len(each["laps_seconds"]) for each in side["sizes"].values()] == [1, 1]


def test_a_side_with_other_features_fails_the_benchmark(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run_right = process.measure_module

    def run_module(module: str, *arguments: str, log_file: Path, **options: Any) -> process.Measured:
        if not module.endswith("ray_data"):
            return run_right(module, *arguments, log_file=log_file, **options)
        given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
        log_file.write_text("the reason\n")
        write_lap(Path(given["output"]), Path(given["images"]), vector=2.0)
        return process.Measured("", 1.0, 1.0)

    monkeypatch.setattr(process, "measure_module", run_module)
    with pytest.raises(SystemExit, match=r"(?s)ray_data-keras-2-1: features of .* its log ends with\nthe reason"):
        comparison.measure(bench)


def summary(side: comparison.Side, fixed: float, rate: float) -> dict[str, object]:
    laps = {size: [Lap(fixed + size / rate + late, 100.0 + late, 2.5e-5) for late in (9, 0, 1)] for size in (100, 300)}
    return comparison.summarize(side, laps)


def test_medians_and_rates_of_a_side() -> None:
    found = summary(comparison.OURS, fixed=4, rate=100)
    assert found["sizes"]["100"] == {
        "seconds": 6.0,
        "images_per_second": 16.7,
        "peak_memory_mib": 101.0,
        "largest_difference": 2.5e-5,
        "laps_seconds": [14.0, 5.0, 6.0],
        "laps_peak_memory_mib": [109.0, 100.0, 101.0],
    }
    assert found["marginal_images_per_second"] == 100.0


def test_the_table_shows_every_side_against_ours() -> None:
    rival = comparison.RIVALS[0]
    sides = {side.key: summary(side, fixed, rate) for side, fixed, rate in ((comparison.OURS, 4, 100), (rival, 21, 50))}
    head, rule, ours, other, _, note = comparison.lines({"sizes": [100, 300], "laps": 3, "sides": sides})
    assert len({len(line) for line in (head, rule, ours, other)}) == 1
    cells = [cell.strip() for cell in other.strip("|").split("|")]
    assert cells[:4] == ["the notebook's way", "keras", "24.0", "28.0"]
    assert cells[-3:] == ["4.00", "3.50", "2.00"]
    assert [cell.strip() for cell in ours.strip("|").split("|")][-3:] == ["1.00", "1.00", "1.00"]
    assert "2.5e-05" in note


def test_each_rival_appears_with_both_engines() -> None:
    assert {(side.module, side.engine) for side in comparison.RIVALS} == {
        (module, engine)
        for module in ("notebook_way", "predict_batch", "ray_data", "daft_way")
        for engine in ("keras", "litert")
    }
    assert len({side.key for side in comparison.SIDES}) == len(comparison.SIDES) == 9
