"""The seed's pipeline and ours, on the same photos in one go: ``python -m benchmarks``, or ``make bench``."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import pipeline, process
from benchmarks.inputs import REPOSITORY, choose_images, choose_weights

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
)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both, check that they agree, print and write the result."""
    args = parse(argv)
    described = machine()
    with process.ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="fruits-bench-") as folder:
        work = Path(folder)
        images, count = choose_images(args.images, work)
        name, weights = choose_weights(work)
        print(f"{count} photos under {images.name}/, weights {Path(name).name}, work in a temporary folder", flush=True)
        begin = time.perf_counter()
        bench = pipeline.Bench(images, pipeline.export_model(name, work), work, args.master)
        export_seconds = round(time.perf_counter() - begin, 3)
        print(f"model exported once in {export_seconds:.1f} s", flush=True)
        pipeline.write_code(work)
        ours = [lap_of("ours", lap, lambda lap=lap: pipeline.run(bench, lap)) for lap in range(args.laps or 3)]
        seed = [
            lap_of("notebook", lap, lambda lap=lap: run_notebook(images, work / f"seed-{lap}", weights, args.master))
            for lap in range(args.laps or 1)
        ]
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": described,
        "versions": {package: found for package in PACKAGES if (found := version_of(package))},
        "images": count,
        "weights": Path(name).name,
        "master": args.master,
        "model_export_seconds": export_seconds,
        "notebook": summarize(seed),
        "ours": summarize(ours),
    }
    result["ratio"] = round(result["notebook"]["median"]["total"] / result["ours"]["median"]["total"], 2)
    check(result)
    show(result)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written to {args.output}")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--images", type=Path, help="folder of <label>/*.jpg; ../shared/fruits/Training by default")
    parser.add_argument("--laps", type=at_least_one, help="laps of each; by default 3 of ours and 1 of the notebook")
    parser.add_argument("--output", type=Path, help="JSON file for the result, as benchmarks/results/NAME.json")
    parser.add_argument("--master", default="local[*]", help="Spark master of both (default: %(default)s)")
    return parser.parse_args(argv)


def at_least_one(text: str) -> int:
    """Return a number of laps."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return int(text)


def lap_of(who: str, lap: int, work: Any) -> dict[str, Any]:
    """Run one lap and say how long it took."""
    result: dict[str, Any] = work()
    print(f"{who}, lap {lap + 1}: {result['seconds']['total']:.1f} s, k = {result['k']}", flush=True)
    return result


def run_notebook(images: Path, output: Path, weights: Path, master: str) -> dict[str, Any]:
    """Run the notebook's pipeline in a process of its own; its total is that process's, from start to end."""
    output.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "benchmarks.notebook", f"--master={master}"),
        *(f"--images={images}", f"--output={output}", f"--weights={weights}"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "SPARK_LOCAL_IP": "127.0.0.1"}
    begin = time.perf_counter()
    printed = process.run(command, folder=output, environment=environment, log_file=output / "log")
    total = time.perf_counter() - begin
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    stages = {name: value for name, value in result["seconds"].items() if name != "total"}
    rest = total - sum(stages.values())
    return {
        **result,
        "seconds": {**stages, "the process's own start and end": round(rest, 3), "total": round(total, 3)},
    }


def summarize(laps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the laps and the median of each stage; rows, dimensions and k are the same in all."""
    figures = {name: laps[0][name] for name in ("rows", "dimensions", "k")}
    for lap in laps:
        if {name: lap[name] for name in figures} != figures:
            raise SystemExit(f"laps differ: {lap} and {figures}")
    median = {name: round(statistics.median(lap["seconds"][name] for lap in laps), 3) for name in laps[0]["seconds"]}
    return {**figures, "laps": [lap["seconds"] for lap in laps], "median": median}


def check(result: dict[str, Any]) -> None:
    """Hold the two against each other: a fast pipeline with another result is no improvement."""
    notebook, ours = result["notebook"], result["ours"]
    for name in ("rows", "dimensions"):
        if notebook[name] != ours[name]:
            raise SystemExit(f"{name} differ: the notebook has {notebook[name]}, ours {ours[name]}")
    if ours["rows"] != result["images"]:
        raise SystemExit(f"{ours['rows']} rows for {result['images']} photos")
    if abs(notebook["k"] - ours["k"]) > 1:
        raise SystemExit(f"k differs by more than 1: the notebook has {notebook['k']}, ours {ours['k']}")


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


def show(result: dict[str, Any]) -> None:
    """Print both, stage by stage, and the ratio."""
    described = result["machine"]
    print(f"\n{described['cores']} x {described['cpu']}, {described['memory_gib']} GiB; {result['images']} photos")
    for who in ("notebook", "ours"):
        side = result[who]
        print(f"\n{who}: {side['rows']} rows, k = {side['k']}, median of {len(side['laps'])} lap(s)")
        for stage, seconds in side["median"].items():
            print(f"  {stage:<40}{seconds:>9.1f} s")
    print(f"\nours is {result['ratio']} times faster")


if __name__ == "__main__":
    sys.exit(main())
