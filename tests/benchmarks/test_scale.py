from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import driver, process, scale
from benchmarks.s3_listing import Keys, ListingServer
from benchmarks.table import Bench
from spark_jobs.args import LISTING_FILE, WORK_FILE, FeaturizeArgs
from spark_jobs.featurize import extraction
from spark_jobs.images import changes

COUNT = 5_000


@pytest.fixture
def args(tmp_path: Path) -> FeaturizeArgs:
    run = tmp_path / "run"
    run.mkdir()
    return FeaturizeArgs(images="s3://many/data", run=run.as_uri(), model="file:///none", images_per_task=300)


def test_files_are_nonempty_links_with_the_names_of_the_keys(tmp_path: Path) -> None:
    scale.make_files(tmp_path / "many", COUNT)
    found = sorted((path for path in (tmp_path / "many").rglob("*.jpg")), key=os.fsencode)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == list(Keys(COUNT, folder="many"))
    status = [path.stat() for path in found]
    assert len({each.st_ino for each in status}) == scale.SOURCES
    assert min(each.st_size for each in status) == scale.SOURCE_BYTES
    assert max(each.st_nlink for each in status) * (scale.COUNT / COUNT) < 65_000


@pytest.mark.slow
def test_the_driver_lists_the_simulated_bucket(
    args: FeaturizeArgs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ListingServer(COUNT) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        figures = driver.prepare(args, 2)
        pages = server.requests()["GET"]
    keys = Keys(COUNT)
    rows = pq.read_table(tmp_path / "run" / LISTING_FILE)
    assert rows["path"].to_pylist() == [f"s3://many/{key}" for key in keys]
    assert rows["size"].to_pylist() == [keys.size(index) for index in range(COUNT)]
    assert pages < 3 * (len(set(rows["label"].to_pylist())) + COUNT / 1_000)
    assert figures["listed"] == COUNT
    # The tasks have the same work, although one label has 90 % of the photos.
    assert figures["tasks"] == len(figures["borders"]) - 1 > 16
    least, most = figures["work_a_task"]
    assert most < 1.05 * least
    shares = [range(first, end) for first, end in zip(figures["borders"], figures["borders"][1:], strict=False)]
    assert sum(extraction.read_work(f"{args.run}/{WORK_FILE}", share).num_rows for share in shares) == COUNT


def test_the_figures_of_tasks_come_from_their_ranges(args: FeaturizeArgs, monkeypatch: pytest.MonkeyPatch) -> None:
    def list_four(folder: changes.Folder, run: str, *_: object) -> dict[str, int]:
        Path(run.removeprefix("file://"), LISTING_FILE).write_bytes(b"123")
        pq.write_table(pa.table({"size": [5, 7, 11, 13]}), f"{run.removeprefix('file://')}/{WORK_FILE}")
        return {"listed": 4}

    monkeypatch.setattr(changes, "find", list_four)
    figures = driver.prepare(args, 1)
    assert list(figures["borders"]) == [0, 2, 4]
    assert figures["images_a_task"] == [2, 2]
    assert figures["bytes_a_task"] == [12, 24]
    assert figures["listing_bytes"] == 3


def test_an_object_that_no_task_reads_fails_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = process.Measured('{"listed": 100, "rows": 99}', 1.0, 100.0)
    monkeypatch.setattr(process, "measure_module", lambda *_, **options: measured)
    bench = Bench(tmp_path, 0, tmp_path, tmp_path, tmp_path, "local[1]")
    with pytest.raises(SystemExit, match="100 objects: 100 were listed and the tasks read 99"):
        scale.run_driver(bench, "s3://many/data", "s3", {}, 100)


def test_the_table_has_a_column_for_each_side() -> None:
    side = {
        "listed": 1_000_000,
        "list_seconds": 8.0,
        "plan_seconds": 0.05,
        "listing_bytes": 12_000_000,
        "tasks": 96,
        "images_a_task": [10_000, 11_000],
        "bytes_a_task": [10**9, 2 * 10**9],
        "work_a_task": [0.99, 1.0],
        "python_memory_mib": 500,
        "peak_memory_mib": 1_100,
    }
    shown = scale.lines({"objects": 1_000_000, "goal_memory_mib": 2_048, "sides": {"local folder": side, "S3": side}})
    assert "1,000,000 objects" in shown[0]
    assert "10,000–11,000" in "\n".join(shown)
    assert "125,000" in shown[3]
