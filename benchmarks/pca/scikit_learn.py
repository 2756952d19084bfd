"""scikit-learn's PCA on all features in memory: pyarrow reads, scikit-learn fits and transforms, pyarrow writes.

Variants: ``<solver>-<type>``, such as ``covariance_eigh-float64``. The features are stored as float32; scikit-learn
computes in the type of its input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.pca.session import Arguments, Lap, Outcome, Stages, run


@contextmanager
def session(args: Arguments) -> Iterator[Lap]:
    """Import the libraries."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.decomposition import PCA

    solver, _, dtype = args.variant.partition("-")
    scores = args.output / "scores"

    def read() -> tuple[pa.Table, np.ndarray]:
        table = pq.read_table(args.features, columns=["path", "label", "features"])
        chunks = table["features"].chunks
        matrix = np.empty((table.num_rows, len(chunks[0][0])), dtype)
        row = 0
        for chunk in chunks:
            matrix[row : row + len(chunk)] = chunk.flatten().to_numpy().reshape(len(chunk), -1)
            row += len(chunk)
        return table.select(["path", "label"]), matrix

    def lap() -> Outcome:
        watch = Stages()
        with watch.stage("read"):
            images, matrix = read()
        with watch.stage("fit"):
            pca = PCA(args.k, svd_solver=solver, random_state=0).fit(matrix)
        with watch.stage("scores"):
            projected = pca.transform(matrix).astype(np.float64, copy=False)
        with watch.stage("write"):
            offsets = np.arange(0, projected.size + 1, args.k, dtype=np.int32)
            components = pa.ListArray.from_arrays(offsets, projected.ravel())
            scores.mkdir()
            pq.write_table(
                images.append_column("components", components), scores / "part-0.parquet", use_dictionary=["label"]
            )
        return Outcome(pca.explained_variance_ratio_.tolist(), scores, watch.seconds)

    yield lap


if __name__ == "__main__":
    sys.exit(run(__doc__, session))
