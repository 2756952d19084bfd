"""Checks of the scores and variances of every lap; only the time of a correct lap counts.

The reference is the singular value decomposition of the centred features in float64, with numpy. It shares no code with
any side, and uses no covariance matrix, as our PCA and most others do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Floats = npt.NDArray[np.float64]

RATIO_TOLERANCE = 1e-6
"""Largest absolute difference of an explained variance ratio."""

SCORE_TOLERANCE = 1e-5
"""Largest absolute difference of a score, in units of the largest score."""

APPROXIMATE_RATIO_TOLERANCE = 1e-3
"""Replaces both tolerances for sides that are not exact in float64; only their ratios are checked."""


@dataclass(frozen=True)
class Reference:
    """The PCA of a run's features.

    Attributes
    ----------
    ratio : ndarray of float64, shape (k,)
        Explained variance ratios.
    rows : dict of str to int
        Row of each path.
    labels : list of str
        Label of each row.
    projected : ndarray of float64, shape (n, k)
        Scores without centring.
    mean : ndarray of float64, shape (k,)
        Mean of these scores; centred scores are ``projected - mean``.
    """

    ratio: Floats
    rows: dict[str, int]
    labels: list[str]
    projected: Floats
    mean: Floats

    @property
    def k(self) -> int:
        """Number of components."""
        return len(self.ratio)


@dataclass(frozen=True)
class Difference:
    """Difference between a lap and the reference, in the units of the tolerances."""

    ratio: float
    score: float


def reference(features: Path, variance_target: float) -> Reference:
    """Return the PCA of the features, with the fewest components that reach a share of the variance.

    Parameters
    ----------
    features : Path
        Folder of Parquet files, at any depth, with the columns path, label and features.
    variance_target : float
        Share of the variance, in (0, 1].
    """
    table = pq.read_table(features, columns=["path", "label", "features"])
    centred = np.concatenate(
        [chunk.flatten().to_numpy().reshape(len(chunk), -1).astype(np.float64) for chunk in table["features"].chunks]
    )
    mean = centred.mean(axis=0)
    centred -= mean
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    ratio = singular**2 / (singular**2).sum()
    k = int(np.flatnonzero(ratio.cumsum() >= variance_target)[0]) + 1
    components = axes[:k].T
    paths = table["path"].to_pylist()
    return Reference(
        ratio=ratio[:k],
        rows={path: row for row, path in enumerate(paths)},
        labels=table["label"].to_pylist(),
        projected=centred @ components + mean @ components,
        mean=mean @ components,
    )


def check(scores: Path, ratio: list[float], expected: Reference, *, centred: bool, exact: bool) -> Difference:
    """Compare the output of a lap with the reference. The sign of each component is ignored.

    Parameters
    ----------
    scores : Path
        Folder of Parquet files with the columns path, label and components, a list of float64.
    ratio : list of float
        Explained variance ratios.
    expected : Reference
    centred : bool
        Whether the side subtracts the mean, as scikit-learn does and Spark ML does not.
    exact : bool
        Whether the side must meet both tolerances, or only :data:`APPROXIMATE_RATIO_TOLERANCE`.

    Raises
    ------
    ValueError
        If rows are missing, duplicated or of other images, if labels or types differ, or if a difference exceeds its
        tolerance.
    """
    found = _read(scores, expected)
    reference = expected.projected - expected.mean if centred else expected.projected
    signs = np.sign(np.einsum("ij,ij->j", found, reference))
    if len(ratio) != expected.k:
        raise ValueError(f"{len(ratio)} explained variance ratios: expected {expected.k}")
    difference = Difference(
        ratio=float(np.abs(np.array(ratio) - expected.ratio).max()),
        score=float(np.abs(found * signs - reference).max() / np.abs(reference).max()),
    )
    if not difference.ratio <= (RATIO_TOLERANCE if exact else APPROXIMATE_RATIO_TOLERANCE):
        raise ValueError(f"an explained variance ratio differs from the reference by {difference.ratio:.1e}")
    if exact and not difference.score <= SCORE_TOLERANCE:
        raise ValueError(f"a score differs from the reference by {difference.score:.1e} of the largest score")
    return difference


def _read(scores: Path, expected: Reference) -> Floats:
    """Return the scores in the order of the reference's rows."""
    table = pq.read_table(scores, columns=["path", "label", "components"])
    components = table["components"].combine_chunks()
    if not pa.types.is_list(components.type) or components.type.value_type != pa.float64():
        raise ValueError(f"components are {components.type}, expected lists of float64")
    if set(components.value_lengths().to_pylist()) != {expected.k}:
        raise ValueError(f"not every row has {expected.k} components")
    paths = table["path"].to_pylist()
    if len(paths) != len(expected.rows) or set(paths) != expected.rows.keys():
        raise ValueError(
            f"{len(paths)} rows for {len(set(paths) & expected.rows.keys())} of the {len(expected.rows)} images"
        )
    order = np.array([expected.rows[path] for path in paths])
    wrong = sum(expected.labels[row] != label for row, label in zip(order, table["label"].to_pylist(), strict=True))
    if wrong:
        raise ValueError(f"{wrong} rows have a wrong label")
    found = np.empty((len(paths), expected.k))
    found[order] = components.flatten().to_numpy(zero_copy_only=False).reshape(len(paths), -1)
    return found
