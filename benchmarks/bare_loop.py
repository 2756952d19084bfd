"""Upper limit of these cores: read, decode, resize and run the model in a loop, one process per core, without Spark.

``python -m benchmarks.bare_loop``: a separate program, so that its processes hold no benchmark code. Two warm loops
process the same photos in turn: one uses only Pillow and LiteRT, the other uses the jobs' functions. Their features
must agree.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from spark_jobs.args import MODEL_FILE, FeaturizeArgs
from spark_jobs.images import decoding
from spark_jobs.model import mobilenet

Featurize = Callable[[str], np.ndarray]

PHOTOS_AT_A_TIME = 16
WARM_UP = 32
TOLERANCE = 1e-5
MAX_PIXELS = FeaturizeArgs.max_pixels


def plain_loop(flatbuffer: bytes) -> Featurize:
    """Return a function from a file to features that uses only Pillow, numpy and LiteRT."""
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(model_content=flatbuffer, num_threads=1)
    interpreter.allocate_tensors()
    (model_input,), (model_output,) = interpreter.get_input_details(), interpreter.get_output_details()

    def featurize(path: str) -> np.ndarray:
        with Image.open(path) as opened:
            image = opened if opened.mode == "RGB" else opened.convert("RGB")
            pixels = np.asarray(image.resize((224, 224)), np.float32)
        pixels /= 127.5
        pixels -= 1.0
        interpreter.set_tensor(model_input["index"], pixels[np.newaxis])
        interpreter.invoke()
        features: np.ndarray = interpreter.get_tensor(model_output["index"])[0]
        return features

    return featurize


def jobs_loop(flatbuffer: bytes) -> Featurize:
    """Return a function from a file to features that uses the jobs' functions."""
    extract = mobilenet.Extractor(flatbuffer)

    def featurize(path: str) -> np.ndarray:
        pixels = decoding.decode(Path(path).read_bytes(), max_pixels=MAX_PIXELS)
        if not isinstance(pixels, np.ndarray):
            raise SystemExit(f"{path} was rejected ({pixels}): the loop needs valid photos")
        return extract(pixels)

    return featurize


LOOPS = {"plain": plain_loop, "jobs": jobs_loop}


def main() -> int:
    """Run both loops and print seconds and photos of each as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_loop", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of <label>/*.jpg")
    parser.add_argument("--model", type=Path, required=True, help="folder of the exported model")
    parser.add_argument("--photos", type=int, required=True, help="number of photos that each loop processes")
    parser.add_argument("--processes", type=int, required=True, help="number of processes, one per core")
    args = parser.parse_args()
    paths = [str(path) for path in islice(sorted(args.images.rglob("*.jpg")), args.photos)]
    if len(paths) != args.photos:
        raise SystemExit(f"{args.images} has {len(paths)} photos, fewer than {args.photos}")
    seconds = run(paths, (args.model / MODEL_FILE).read_bytes(), args.processes)
    print(json.dumps({name: {"photos": len(paths), "seconds": round(value, 3)} for name, value in seconds.items()}))
    return 0


def run(paths: Sequence[str], flatbuffer: bytes, processes: int) -> dict[str, float]:
    """Return the seconds of each loop, from the common start of all processes to the end of the last one."""
    context = multiprocessing.get_context("spawn")
    barrier, ended = context.Barrier(processes), context.SimpleQueue()
    nexts = {name: context.Value("q", 0) for name in LOOPS}
    workers = [
        context.Process(target=work, args=(paths, flatbuffer, barrier, nexts, ended), daemon=True)
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in LOOPS}
    for _ in range(processes * len(LOOPS)):
        while ended.empty():
            if any(worker.exitcode for worker in workers):
                raise SystemExit("a bare loop process failed: see its standard error")
            time.sleep(0.05)
        name, begin, end = ended.get()
        times[name].append((begin, end))
    for worker in workers:
        worker.join()
    return {name: max(end for _, end in each) - min(begin for begin, _ in each) for name, each in times.items()}


def work(
    paths: Sequence[str],
    flatbuffer: bytes,
    barrier: Barrier,
    nexts: dict[str, Synchronized[int]],
    ended: SimpleQueue[tuple[str, float, float]],
) -> None:
    """Run one process's part of both loops; processes take a few photos at a time, so that all finish together."""
    loops = {name: make(flatbuffer) for name, make in LOOPS.items()}
    for path in paths[:WARM_UP]:
        features = [featurize(path) for featurize in loops.values()]
        if np.abs(features[0] - features[1]).max() > TOLERANCE:
            raise SystemExit(f"the two loops compute different features of {path}")
    for name, featurize in loops.items():
        barrier.wait()
        begin = time.perf_counter()
        while (first := _take(nexts[name])) < len(paths):
            for path in paths[first : first + PHOTOS_AT_A_TIME]:
                featurize(path)
        ended.put((name, begin, time.perf_counter()))


def _take(position: Synchronized[int]) -> int:
    with position.get_lock():
        first = position.value
        position.value = first + PHOTOS_AT_A_TIME
    return first


if __name__ == "__main__":
    sys.exit(main())
