"""Benchmark tables; each measures all its sides in one run: ``python -m benchmarks [TABLE …]``, or ``make bench``."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from benchmarks import pipeline, process
from benchmarks.inputs import choose_images, choose_weights
from benchmarks.table import Bench, Table

TABLES = {
    "notebook": "benchmarks.end_to_end",
    "compute": "benchmarks.compute",
    "latency": "benchmarks.latency",
    "scale": "benchmarks.scale",
    "rivals": "benchmarks.rivals.comparison",
    "pca": "benchmarks.pca.comparison",
    "pcascale": "benchmarks.pca.scale",
    "accuracy": "benchmarks.accuracy",
    "days": "benchmarks.days",
    "findchanges": "benchmarks.find_changes",
    "insights": "benchmarks.insights",
    "classifier": "benchmarks.classifier",
    "basis": "benchmarks.basis",
}
"""The tables, in the order in which they are measured, and their modules."""

PACKAGES = (
    "pyspark",
    "tensorflow-cpu",
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "numpy",
    "pyarrow",
    "pillow",
    "pandas",
    "scikit-learn",
)

RESULTS = Path(__file__).resolve().parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the tables one after another; print and write each result as soon as it is complete."""
    args = parse(argv)
    tables = {name: load(name) for name in args.tables or TABLES}
    with process.ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="fruits-bench-") as folder:
        work = Path(folder)
        images, count = choose_images(args.images, work)
        name, weights = choose_weights(work)
        print(f"{count} photos under {images.name}/, weights {Path(name).name}, work in a temporary folder", flush=True)
        begin = time.perf_counter()
        model = pipeline.export_model(name, work)
        export_seconds = round(time.perf_counter() - begin, 3)
        print(f"model exported once in {export_seconds:.1f} s", flush=True)
        for table_name, table in tables.items():
            print(f"\n{table_name}: {table.DESCRIPTION}", flush=True)
            described = machine()
            own = work / table_name
            pipeline.write_code(own)
            bench = Bench(images, count, model, weights, own, args.master, args.laps, args.sizes)
            result = table.measure(bench)
            record = {
                "table": table_name,
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)]),
                "machine": described,
                "versions": {package: found for package in PACKAGES if (found := version_of(package))},
                "images": count,
                "weights": Path(name).name,
                "master": args.master,
                "model_export_seconds": export_seconds,
                "result": result,
            }
            show(table, record)
            print(f"written to {write(args.output_dir, record)}", flush=True)
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)}; default: all")
    parser.add_argument("--images", type=Path, help="folder of <label>/*.jpg; ../shared/fruits/Training by default")
    parser.add_argument("--laps", type=at_least_one, help="laps of each side (default: depends on the table)")
    parser.add_argument(
        "--sizes", type=sizes, default=(), help="numbers of photos, such as 64,128 (default: depends on the table)"
    )
    parser.add_argument("--output-dir", type=Path, default=RESULTS, help="folder for the JSON files; %(default)s")
    parser.add_argument("--master", default="local[*]", help="Spark master (default: %(default)s)")
    args = parser.parse_args(argv)
    for name in args.tables:
        if name not in TABLES:
            parser.error(f"unknown table {name!r}; the tables are {', '.join(TABLES)}")
    return args


def at_least_one(text: str) -> int:
    """Return a number of laps or photos."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def sizes(text: str) -> tuple[int, ...]:
    """Return numbers of photos, smallest first."""
    return tuple(sorted({at_least_one(part.strip()) for part in text.split(",")}))


def load(name: str) -> Table:
    """Import a table's module; only the requested tables are imported."""
    return cast(Table, importlib.import_module(TABLES[name]))


def machine() -> dict[str, Any]:
    """Describe this machine."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def version_of(package: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def show(table: Table, record: dict[str, Any]) -> None:
    """Print the machine, then the table."""
    described = record["machine"]
    print(f"\n{described['cores']} x {described['cpu']}, {described['memory_gib']} GiB\n")
    print("\n".join(table.lines(record["result"])))


def write(folder: Path, record: dict[str, Any]) -> Path:
    """Write a record as ``<date>-<table>.json`` and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{record['date'][:10]}-{record['table']}.json"
    file.write_text(json.dumps(record, indent=2) + "\n")
    return file


if __name__ == "__main__":
    sys.exit(main())
