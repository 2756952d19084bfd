"""Dask-ML's PCA of a Dask array: a distributed QR decomposition (TSQR), then the SVD of the factor R.

Written as in the API references of ``dask_ml.decomposition.PCA`` and ``dask.array.from_delayed``. A task reads some row
groups as float64. The array is persisted in memory, since ``fit`` reads it more than once; without this, a lap took
twice as long. The options are the fastest for 40,000 x 1280 on two cores: one chunk per core (more chunks: 10 % slower)
and Dask's threads with one BLAS thread each (processes: 20 % slower; more BLAS threads: up to twice as slow). The
solver is ``full``. Dask-ML's solver ``randomized`` is not exact, and it raises an error with scikit-learn 1.9.
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
    """Import the libraries. Dask starts its threads with the first task."""
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
        """Return the row groups and the number of rows of each chunk."""
        footers = {file: pq.read_metadata(file) for file in sorted(args.features.glob("*/*.parquet"))}
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
