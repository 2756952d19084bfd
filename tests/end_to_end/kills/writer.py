"""A day's run in one process: the tasks and the jobs themselves, on tiny images, without Airflow, Spark and a model.

Images are files of any bytes. Their features are numbers derived from the bytes, so a test knows them.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from include.artifacts.bundle import build_bundle
from include.erasure.forget import forget
from include.erasure.request import read_request
from include.lake import garbage, verification
from include.lake.layout import Lake
from include.settings.parameters import RunParams
from include.tasks.changes import featurize_args, find_changes
from include.tasks.results import publish_results, verify_results
from spark_jobs.args import FeaturizeArgs, PcaArgs
from spark_jobs.featurize import extraction, segments
from spark_jobs.featurize import job as featurize_job
from spark_jobs.images.rejects import Reject
from spark_jobs.insights import thumbnails
from spark_jobs.lake import storage
from spark_jobs.model import mobilenet
from spark_jobs.pca import job as pca_job
from spark_jobs.runtime import context
from tests.end_to_end.kills.interruption import Interruption, Moment
from tests.include.run_records import MODEL_DIGEST, WEIGHTS, created_record, plan_record, run_record
from tests.spark_jobs.in_process import Here

DIMENSIONS = 6
BAD = b"no image"

STAGES = ("find_changes", "featurize", "pca", "verify_results", "publish_results")


def features_of(data: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the features of an image."""
    digest = hashlib.sha256(data).digest()
    return np.frombuffer(digest[: 4 * DIMENSIONS], np.uint32).astype(np.float32) / np.float32(2**32)


def _pictures(args: FeaturizeArgs, files: Sequence[tuple[str, int]], _program: Sequence[str]) -> Iterator[Any]:
    scheme = args.images.partition("://")[0]
    for path, _ in files:
        data = storage.read_bytes(f"{scheme}://{path}")
        yield Reject("not_an_image", "these bytes are no image") if data == BAD else data


def features_of_pixels(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the features of a decoded image."""
    return pixels[:: pixels.shape[0] // DIMENSIONS].reshape(-1)[:DIMENSIONS].astype(np.float32)


def prepare(*, decodes: bool) -> None:
    """Make the code of this process small and fast: few dimensions, small segments, no model; no decoder by default."""
    for module in (featurize_job, verification):
        module.FEATURE_DIMENSIONS = DIMENSIONS  # type: ignore[attr-defined]
    segments.ROWS_PER_SEGMENT = 4
    if not decodes:
        extraction._pictures = _pictures  # type: ignore[assignment]
        thumbnails._read_share = lambda share, *_: [thumbnails.NOTHING for _ in share]  # type: ignore[assignment]
    mobilenet.read = lambda _: mobilenet.Model(MODEL_DIGEST, WEIGHTS, b"")  # type: ignore[assignment, arg-type]
    context.start = lambda _: Here()  # type: ignore[assignment]


def run_day(
    root: str,
    slug: str,
    round_: str,
    notes: Path,
    environ: dict[str, str],
    interruption: tuple[int | None, Moment],
    decodes: bool,
) -> None:
    """Run the stages that have not completed yet; the results of the completed ones are in the folder ``notes``.

    The names of the operations are written into ``notes`` too, when the day has ended. With ``decodes``, the images are
    decoded in a child process, as on a cluster; this process leads a group of processes.
    """
    os.environ.update(environ)
    prepare(decodes=decodes)
    if decodes:
        os.setsid()
    lake, params = Lake(root), replace(RunParams(), max_reject_ratio=0.5, n_components=2, variance_target=None)
    record = run_record(
        lake=root, images=lake.data("data"), slug=slug, round=round_, params=vars(params), run_id=f"run {slug}"
    )
    interrupted = Interruption(root, *interruption)
    interrupted.install()
    done: dict[str, Any] = {}
    for stage in STAGES:
        note = notes / stage
        if note.exists():
            done[stage] = pickle.loads(note.read_bytes())
            continue
        done[stage] = _run_stage(stage, lake, record, params, done, features_of_pixels if decodes else features_of)
        _write(note, pickle.dumps(done[stage]))
    (notes / "operations").write_bytes(pickle.dumps(interrupted.operations))


def _write(note: Path, data: bytes) -> None:
    """Write a file at once, as Airflow's database commits what a task returns."""
    new = note.with_suffix(".new")
    new.write_bytes(data)
    new.replace(note)


def erase(
    root: str, paths: Sequence[str], notes: Path, environ: dict[str, str], interruption: tuple[int | None, Moment]
) -> None:
    """Erase photos; the names of the operations are written into ``notes`` when that has ended."""
    os.environ.update(environ)
    prepare(decodes=False)
    interrupted = Interruption(root, *interruption)
    interrupted.install()
    forget(Lake(root), read_request(Lake(root), paths, []), 2, None)
    (notes / "operations").write_bytes(pickle.dumps(interrupted.operations))


def collect(root: str, environ: dict[str, str]) -> None:
    """Delete what no kept state of a lake names."""
    os.environ.update(environ)
    garbage.collect_garbage(Lake(root), 1, None, age=timedelta(seconds=-5))


def _run_stage(
    stage: str, lake: Lake, record: Any, params: RunParams, done: dict[str, Any], extract: Callable[[Any], Any]
) -> Any:
    found = done.get("find_changes")
    if found and found["nothing_to_do"]:
        return None
    if stage == "find_changes":
        return find_changes(record)
    run = lake.run(found["run"])
    if stage == "featurize":
        args = replace(featurize_args(record, found["run"], params), images_per_task=3, small_segments=2)
        args = replace(args, progress_seconds=0.0)  # written at times that differ from one run to the next
        engine = extraction.Engine(lambda *_: extract)  # type: ignore[arg-type, return-value]
        return featurize_job.run(Here(), args, engine=engine)  # type: ignore[arg-type]
    if stage == "pca":
        fixed = {"variance_target": None, "n_components": 2, "sample_images": 0}
        return pca_job.run(PcaArgs(run=run.root, basis=params.basis, drift_threshold=9.0, **fixed))  # type: ignore[arg-type]
    if stage == "verify_results":
        return verify_results(record, found, build_bundle().jobs)
    created = created_record()
    return publish_results(record, found, done["verify_results"], plan_record(), created, None)  # type: ignore[arg-type]
