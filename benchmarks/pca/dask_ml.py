"""Dask-ML's PCA over a Dask array: a distributed QR decomposition (TSQR), then the SVD of what it leaves.

After Dask-ML's API page of ``PCA`` and Dask's of ``from_delayed``. A task reads some row groups, as float64, and the
array is kept in memory, since ``fit`` passes over it more than once: without, a lap took twice as long. Taken is what
was fastest at 40,000 x 1280 on two cores: a chunk a core (more: a tenth slower), Dask's threads with one thread of BLAS
in each (processes: a fifth slower; BLAS with threads of its own: up to twice as slow), the solver ``full``. Dask-ML's
``randomized``, which is not exact, ends in an error with scikit-learn 1.9.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.pca.session import Arguments, Lap, Outcome, Stages, run

RowGroups = list[tuple[Path, int]]
"""Files and numbers of row groups."""


@contextmanager
def session(args: Arguments) -> Iterator[Lap]:
    """Import the libraries; Dask's threads start with the first work."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    import dask
    import dask.array as da
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from dask_ml.decomposition import PCA

    scores = args.output / "scores"

    def plan() -> list[tuple[RowGroups, int]]:
        """Return the row groups of each chunk, and its rows."""
        footers = {file: pq.read_metadata(file) for file in sorted(args.features.glob("*.parquet"))}
        groups = [
            (file, group, footer.row_group(group).num_rows)
            for file, footer in footers.items()
            for group in range(footer.num_row_groups)
        ]
        cores = len(os.sched_getaffinity(0))
        shares = [share for share in np.array_split(np.arange(len(groups)), cores) if len(share)]
        return [([groups[i][:2] for i in share], sum(groups[i][2] for i in share)) for share in shares]

    def table(share: RowGroups, columns: list[str]) -> pa.Table:
        files = {file: pq.ParquetFile(file) for file, _ in share}
        groups = (files[file].read_row_group(group, columns, use_threads=False) for file, group in share)
        return pa.concat_tables(groups)

    def read(share: RowGroups) -> np.ndarray:
        vectors = table(share, ["features"])["features"].combine_chunks()
        return vectors.flatten().to_numpy().reshape(len(vectors), -1).astype(np.float64)

    def write(share: RowGroups, projected: np.ndarray, file: Path) -> None:
        offsets = np.arange(0, projected.size + 1, args.k, dtype=np.int32)
        components = pa.ListArray.from_arrays(offsets, np.ascontiguousarray(projected).ravel())
        images = table(share, ["path", "label"])
        pq.write_table(images.append_column("components", components), file, use_dictionary=["label"])

    def lap() -> Outcome:
        watch = Stages()
        shares = plan()
        with watch.stage("read"):
            width = len(table(shares[0][0][:1], ["features"])["features"][0])
            chunks = [da.from_delayed(dask.delayed(read)(share), (rows, width), np.float64) for share, rows in shares]
            array = da.concatenate(chunks).persist()
        with watch.stage("fit"):
            pca = PCA(args.k, svd_solver="full").fit(array)
        with watch.stage("scores"):
            scores.mkdir()
            blocks = pca.transform(array).to_delayed().ravel()
            dask.compute(
                *(
                    dask.delayed(write)(share, block, scores / f"part-{number}.parquet")
                    for number, ((share, _), block) in enumerate(zip(shares, blocks, strict=True))
                )
            )
        return Outcome(pca.explained_variance_ratio_.tolist(), scores, watch.seconds)

    with dask.config.set(scheduler="threads"):
        yield lap


if __name__ == "__main__":
    sys.exit(run(__doc__, session))
