"""An erasure in a bucket with versions: seconds and requests, and those of its proof.

``python -m benchmarks.forget [PHOTOS]`` writes a lake of three kept states into a bucket with versions on SeaweedFS:
small JPEGs, and generated vectors in the lake's format. The second and the third state add and replace photos. It then
erases one photo of the first state, as ``make forget`` does, and proves it. Requests are counted where they are sent.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pyarrow as pa
from botocore.client import BaseClient
from PIL import Image

from benchmarks import memory, object_store
from benchmarks.object_store import BUCKET
from benchmarks.table import markdown
from include.erasure import proof
from include.erasure.forget import forget
from include.erasure.receipt import describe_receipt
from include.erasure.request import read_request
from include.lake.commit import commit
from include.lake.layout import Lake
from include.lake.publication import show_published
from include.lake.state import read_pointer
from spark_jobs.args import FEATURE_DIMENSIONS, FEATURIZE_SUMMARY_FILE, LISTING_FILE, LIVE_SEGMENTS_FILE, PcaArgs
from spark_jobs.featurize import segments
from spark_jobs.images import changes
from spark_jobs.lake import schemas, storage
from spark_jobs.pca import job as pca_job
from spark_jobs.records import Fingerprint, Segment
from spark_jobs.runtime.in_process import InProcess
from tests.include.run_records import featurize_summary, found_record, manifest, run_record

FINGERPRINT: Fingerprint = {"digest": "0" * 64, "inputs": {}}
LABELS = 100
CHANGED_SHARE = 100
"""Of so many photos, one is added and one is replaced in the second and the third state."""

UPLOADS = 16
KINDS = ("put", "get", "head", "copy", "delete", "list_with_delimiter")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the lake, erase a photo, prove it, and print the figures as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forget", description=__doc__)
    parser.add_argument("photos", type=int, nargs="?", default=20_000, help="number of photos of the first state")
    count = parser.parse_args(argv).photos
    with tempfile.TemporaryDirectory(prefix="fruits-bench-") as folder, object_store.started(Path(folder)) as store:
        os.environ.update(object_store.environment(store.url, Path(folder)))
        versioning = {"Status": "Enabled"}
        object_store.client(store.url).put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration=versioning)
        lake = Lake(f"s3://{BUCKET}")
        write_lake(lake, object_store.client(store.url), count)
        erased = path_of(0)
        before, begin, cpu = memory.high_water_bytes(os.getpid()), time.perf_counter(), time.process_time()
        with counted() as requests:
            receipt = forget(lake, read_request(lake, [erased], []), 7, None)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
        peak = memory.high_water_bytes(os.getpid())
        print("\n".join(describe_receipt(lake, receipt)))
        begin, cpu = time.perf_counter(), time.process_time()
        with counted() as reads:
            code = proof.main([f"{lake.root}/erasures/{receipt['erasure']}.json"])
        proof_seconds, proof_cpu = time.perf_counter() - begin, time.process_time() - cpu
        print(json.dumps(receipt, indent=2))
    rows = [
        ["make forget", f"{seconds:.1f}", f"{cpu_seconds:.1f}", f"{requests.total():,}", text(requests)],
        ["make prove-erasure", f"{proof_seconds:.1f}", f"{proof_cpu:.1f}", f"{reads.total():,}", text(reads)],
    ]
    print("\n".join(markdown([f"{count:,} photos", "s", "CPU s", "requests", "by kind"], rows)))
    print(f"peak memory {peak / 2**20:.0f} MiB, before {before / 2**20:.0f} MiB")
    return code


def path_of(number: int) -> str:
    """Return the path of a photo in the lake."""
    return f"data/label {number % LABELS:02d}/{number:07d}.jpg"


def write_lake(lake: Lake, client: Any, count: int) -> None:
    """Write three states; each has the photos of the state before it, 1 % of them replaced, and 1 % more."""
    numbers = list(range(count))
    before: list[Segment] = []
    for state in range(3):
        slug = f"2026112{state}T000000Z-01234567"
        if state:
            first = len(numbers)
            replaced = numbers[state::CHANGED_SHARE]
            new = [*replaced, *range(first, first + count // CHANGED_SHARE)]
            numbers += range(first, first + count // CHANGED_SHARE)
        else:
            replaced, new = [], numbers
        with ThreadPoolExecutor(UPLOADS) as pool:
            list(pool.map(partial(put, client, state), new))
        before = write_state(lake, slug, state, new, replaced, before)
        print(f"state {state + 1}: {len(numbers):,} photos", flush=True)


def put(client: Any, state: int, number: int) -> None:
    """Upload a photo."""
    stream = io.BytesIO()
    pixels = np.random.default_rng([state, number]).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    client.put_object(Bucket=BUCKET, Key=path_of(number), Body=stream.getvalue())


def write_state(
    lake: Lake, slug: str, state: int, new: list[int], replaced: list[int], before: list[Segment]
) -> list[Segment]:
    """Write listing, segments and the results of pca of a state, and publish it; return its segments."""
    run = lake.run(slug)
    listed = changes.find(changes.Folder(lake.data("data"), "*.jpg"), run.root, FINGERPRINT, None)["listed"]
    target = segments.Target(lake.segments, f"{slug}-00000000", FINGERPRINT["digest"])
    dropped = pa.array(sorted(f"{lake.root}/{path_of(number)}" for number in replaced), pa.string())
    live = []
    for number, segment in enumerate(before):
        kept = segments.write(target, number, [segments.source(lake.segments, segment)], dropped)
        live += [kept] if kept else []
    vectors = storage.join(run.root, "new.parquet")
    write_vectors(vectors, [f"{lake.root}/{path_of(number)}" for number in sorted(new)], state)
    written = segments.write(target, len(before), [segments.Source((vectors,), ())], None)
    assert written is not None
    live.append(written)
    storage.delete(vectors)
    storage.write_json(storage.join(run.root, LIVE_SEGMENTS_FILE), {"folder": lake.segments, "segments": live})
    segments.write_rejects(storage.join(run.rejects, schemas.FILE_NAME.format(0)), lake.segments, live)
    featurize = featurize_summary(
        listed=listed, features=listed, rejects=0, rejects_by_reason={}, first_rejects=[], segments=len(live)
    )
    featurize["spark_version"] = "4.1.1"
    storage.write_json(storage.join(run.root, FEATURIZE_SUMMARY_FILE), featurize)
    pca = pca_job.run(PcaArgs(run=run.root, n_components=40, variance_target=None), InProcess("4.1.1"))  # type: ignore[arg-type]
    record = run_record(lake=lake.root, images=lake.data("data"), slug=slug, run_id=slug)
    record["previous"] = {"run": None, "pca_model": None, "note": "not compared"}
    found = found_record(run=slug, listed=listed)
    pointer = read_pointer(lake, None)
    state_record: Any = manifest(run=record, found=found, segments=live, featurize=featurize, pca=asdict_of(pca))
    commit(lake, state_record, pointer.digest if pointer else None, "2026-11-27T00:00:00+00:00", None)
    show_published(lake, None)
    assert storage.size(storage.join(run.root, LISTING_FILE))
    return live


def asdict_of(record: Any) -> dict[str, Any]:
    """Return a record as JSON has it."""
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain


def write_vectors(uri: str, paths: list[str], seed: int) -> None:
    """Write a file of random vectors, as tasks of featurize write them."""
    random = np.random.default_rng(seed)
    with segments.parquet_file(uri, schemas.FEATURES) as writer:
        for start in range(0, len(paths), segments.ROWS_PER_GROUP):
            part = paths[start : start + segments.ROWS_PER_GROUP]
            values = random.random(len(part) * FEATURE_DIMENSIONS, np.float32)
            offsets = np.arange(0, len(values) + 1, FEATURE_DIMENSIONS, dtype=np.int32)
            labels = [path.split("/")[-2] for path in part]
            lists = pa.ListArray.from_arrays(offsets, values)
            writer.write_table(pa.table([part, labels, lists], schema=schemas.FEATURES))


class counted:  # noqa: N801 (a context manager is named like a function)
    """Count the requests of obstore and boto3 by their names while a block runs. Large files are several requests."""

    def __enter__(self) -> Counter[str]:
        self._requests: Counter[str] = Counter()
        self._originals = {name: getattr(obstore, name) for name in (*KINDS, "list")}
        self._call = BaseClient._make_api_call
        for name in KINDS:
            setattr(obstore, name, self._wrapped(name))
        obstore.list = self._listed  # type: ignore[assignment]
        requests, call = self._requests, self._call

        def sent(client: Any, operation: str, arguments: dict[str, Any]) -> Any:
            requests[operation] += 1
            return call(client, operation, arguments)

        BaseClient._make_api_call = sent
        return self._requests

    def __exit__(self, *_: object) -> None:
        for name, original in self._originals.items():
            setattr(obstore, name, original)
        BaseClient._make_api_call = self._call

    def _wrapped(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self._requests[name] += 1
            return self._originals[name](*arguments, **options)

        return call

    def _listed(self, *arguments: Any, **options: Any) -> Any:
        for chunk in self._originals["list"](*arguments, **options):
            self._requests["list"] += 1
            yield chunk


def text(requests: Counter[str]) -> str:
    """Return the counts by kind, the most frequent first."""
    return ", ".join(f"{name} {number:,}" for name, number in requests.most_common())


if __name__ == "__main__":
    raise SystemExit(main())
