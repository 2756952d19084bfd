"""How the pca step scales: the duration of the fit by number of images, and the driver's memory at a million images.

The step runs as in the DAG. From stored moments, the fit reads about d² numbers per file of 50,000 images; from raw
features it reads all features. The CSV is measured with few dimensions, so that a million rows take about a minute.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from benchmarks import pipeline
from benchmarks.pca import synthetic
from benchmarks.pca.ours import check_moments
from benchmarks.rates import median
from benchmarks.table import Bench, markdown
from spark_jobs.args import CSV_FILE, SCORES_FOLDER

DESCRIPTION = "the pca step's fit at growing numbers of images, and the driver's memory for a CSV of a million rows"

LAPS = 3
SIZES = (1_000, 10_000, 100_000)
DIMENSIONS = 1280
CSV_FACTOR = 10
"""The CSV has this many times the largest number of images."""

CSV_DIMENSIONS = 64
CSV_COMPONENTS = 60
HEAP_MB = 1024
GOAL_DRIVER_MIB = 1024
CSV_BLOCK_BYTES = 16 * 1024 * 1024


def measure(bench: Bench, dimensions: int = DIMENSIONS) -> dict[str, Any]:
    """Measure the step at each size, from stored moments and from raw features alternately; then measure the CSV.

    Raises
    ------
    SystemExit
        If stored moments are computed again, or the CSV differs from the scores.
    """
    sizes = bench.sizes or SIZES
    for size in sizes:
        synthetic.write_run(pipeline.run_folder(bench, f"stored-{size}"), size, dimensions)
        synthetic.link_without_moments(
            pipeline.run_folder(bench, f"stored-{size}"), pipeline.run_folder(bench, f"raw-{size}")
        )
    steps: dict[str, list[dict[str, Any]]] = {f"{kind}-{size}": [] for size in sizes for kind in ("stored", "raw")}
    for lap in range(1, (bench.laps or LAPS) + 1):
        for name, step_laps in steps.items():
            step = pipeline.pca(bench, name)
            moments = step["summary"]["moments"]
            check_moments(name.partition("-")[0], stored=moments["stored"], computed=moments["computed"])
            step_laps.append(step)
            print(f"{name}, lap {lap}: moments and fit {fit_seconds(step):.2f} s", flush=True)
    fits = [
        {"images": size, **{kind: summarize(steps[f"{kind}-{size}"]) for kind in ("stored", "raw")}} for size in sizes
    ]
    for name in steps:
        shutil.rmtree(pipeline.run_folder(bench, name))
    return {"dimensions": dimensions, "fits": fits, "csv": measure_csv(bench, CSV_FACTOR * sizes[-1])}


def fit_seconds(step: dict[str, Any]) -> float:
    """Return the seconds in which a step read or computed the moments, checked them, and fitted."""
    seconds = step["summary"]["seconds"]
    return float(seconds["moments"] + seconds["fit"])


def summarize(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the laps of one kind of step at one size."""
    seconds = [step["summary"]["seconds"] for step in steps]
    return {
        "moments_seconds": median(each["moments"] for each in seconds),
        "fit_seconds": median(each["fit"] for each in seconds),
        "moments_and_fit_seconds": median(fit_seconds(step) for step in steps),
        "step_seconds": median(step["seconds"] for step in steps),
        "laps_moments_and_fit_seconds": [round(fit_seconds(step), 3) for step in steps],
    }


def measure_csv(bench: Bench, images: int) -> dict[str, Any]:
    """Run the step with a small heap on many images of few dimensions, and read its CSV.

    Raises
    ------
    SystemExit
        If the CSV differs from the scores.
    """
    name = "csv"
    run = pipeline.run_folder(bench, name)
    synthetic.write_run(run, images, CSV_DIMENSIONS)
    options = {"variance_target": None, "n_components": CSV_COMPONENTS}
    step = pipeline.pca(bench, name, options=options, heap_mb=HEAP_MB)
    print(f"{images} x {CSV_COMPONENTS}: {step['seconds']:.1f} s, driver {step['driver_memory_mib']} MiB", flush=True)
    check_csv(run / CSV_FILE, run / SCORES_FOLDER, images, CSV_COMPONENTS)
    result = {
        "images": images,
        "dimensions": CSV_DIMENSIONS,
        "columns": CSV_COMPONENTS + 1,
        "bytes": (run / CSV_FILE).stat().st_size,
        "heap_mib": HEAP_MB,
        "goal_driver_mib": GOAL_DRIVER_MIB,
        "driver_memory_mib": step["driver_memory_mib"],
        "peak_memory_mib": step["peak_memory_mib"],
        "seconds": step["seconds"],
        "stages": step["summary"]["seconds"],
    }
    shutil.rmtree(run)
    return result


def check_csv(file: Path, scores: Path, rows: int, components: int) -> None:
    """Read a CSV as a stream, and compare it with the scores: column names, order of rows, and the bits of each float.

    Parameters
    ----------
    file : Path
        The CSV.
    scores : Path
        Folder of the Parquet files with the same scores.
    rows, components : int
        Expected numbers of rows and components.

    Raises
    ------
    SystemExit
        If anything differs.
    """
    names = [f"F {number}" for number in range(1, components + 1)]
    types = {**dict.fromkeys(names, pa.float64()), "label": pa.string()}
    with pa_csv.open_csv(
        file,
        read_options=pa_csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        convert_options=pa_csv.ConvertOptions(column_types=types),
    ) as reader:
        if reader.schema.names != list(types):
            raise SystemExit(f"{file.name} has the columns {reader.schema.names}, expected F 1 … F {components}, label")
        found = _digest((np.column_stack(batch.columns[:-1]), batch.columns[-1].to_pylist()) for batch in reader)
    expected = _digest(_stored(scores))
    if (found[0], expected[0]) != (rows, rows):
        raise SystemExit(f"{file.name} has {found[0]} rows, the scores have {expected[0]}: expected {rows} in both")
    if found != expected:
        raise SystemExit(f"{file.name} and the scores differ in values, labels or order")


def _stored(scores: Path) -> Iterator[tuple[npt.NDArray[np.float64], list[str]]]:
    for path in sorted(scores.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["label", "components"]):
                components = batch.column("components")
                matrix = components.flatten().to_numpy().reshape(len(components), -1)
                yield matrix, batch.column("label").to_pylist()


def _digest(blocks: Iterable[tuple[npt.NDArray[np.float64], list[str]]]) -> tuple[int, str, str]:
    """Return the number of rows, and digests of the floats and the labels that do not depend on the block size."""
    rows, floats, labels = 0, hashlib.sha256(), hashlib.sha256()
    for matrix, names in blocks:
        rows += len(names)
        floats.update(np.ascontiguousarray(matrix).data)
        labels.update("".join(f"{name}\n" for name in names).encode())
    return rows, floats.hexdigest(), labels.hexdigest()


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table of the fits, their growth, and the figures of the CSV."""
    header = ["images", *(f"{kind}: {what}" for kind in ("stored", "raw") for what in ("moments s", "fit s", "both s"))]
    names = ("moments_seconds", "fit_seconds", "moments_and_fit_seconds")
    rows = [
        [f"{fit['images']:,}", *(f"{fit[kind][name]:.2f}" for kind in ("stored", "raw") for name in names)]
        for fit in result["fits"]
    ]
    first, last = result["fits"][0], result["fits"][-1]
    growth = {kind: last[kind][names[-1]] / first[kind][names[-1]] for kind in ("stored", "raw")}
    csv = result["csv"]
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in csv["stages"].items() if name != "total")
    reached = "reached" if csv["driver_memory_mib"] <= csv["goal_driver_mib"] else "MISSED"
    figures = [
        ["MB", f"{csv['bytes'] / 1e6:,.0f}"],
        ["the whole step: seconds", f"{csv['seconds']:.1f}"],
        [f"driver, JVM and Python: peak MiB (goal {csv['goal_driver_mib']}: {reached})", f"{csv['driver_memory_mib']}"],
        ["driver and workers: peak MiB", f"{csv['peak_memory_mib']}"],
    ]
    grown = (
        f"{last['images'] / first['images']:.0f} times the images of {result['dimensions']} features take "
        f"{growth['stored']:.2f} times as long from stored moments, {growth['raw']:.2f} times from raw features."
    )
    note = (
        f"Stages of the step, seconds: {stages}. The driver's heap was {csv['heap_mib']} MiB; with a local master, its "
        "JVM also is the executor. The CSV was read back: its floats equal the scores to the last bit."
    )
    head = [f"CSV of {csv['images']:,} rows, {csv['columns']} columns", "figure"]
    return [*markdown(header, rows), "", grown, "", *markdown(head, figures), "", note]
