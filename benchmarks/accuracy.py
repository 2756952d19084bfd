"""Accuracy of a PCA when the mean is large compared with the standard deviations.

The reference is the covariance in two passes and in long double (64 bits of mantissa on x86-64). All sides get the same
float64 features. Some features are linear combinations of others, so the smallest variances are zero.

Spark ML runs in a separate process: ``python -m benchmarks.accuracy MASTER FEATURES.npy …``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import process
from benchmarks.table import Bench, markdown
from spark_jobs.numerics import decomposition, moments
from spark_jobs.pca import blocks

DESCRIPTION = "error of our PCA and of others against long double, as the mean grows"

Floats = NDArray[np.float64]

ROWS, DIMENSIONS, INDEPENDENT = 20_000, 64, 56
AXES = 10
"""Number of leading axes whose subspace is compared."""

MEANS = (1.0, 1e3, 1e6)
"""Means of the features, in standard deviations."""

OURS = "ours"
TEXTBOOK = "Σxxᵀ − nμμᵀ"
SPARK_ML = "Spark ML"
ROUNDING = 1e-14
"""Error up to this value is unavoidable rounding."""


def measure(bench: Bench) -> dict[str, Any]:
    """Fit all sides at all means.

    Raises
    ------
    SystemExit
        If our result has a negative eigenvalue or a larger error than Σxxᵀ − nμμᵀ, or if a long double of this machine
        is no more precise than a double, so that it cannot be the reference.
    """
    if np.finfo(np.longdouble).eps > 1e-18:
        raise SystemExit("a long double of this machine is no more precise than a double: there is no reference")
    files = [write_features(bench.work / f"features-{number}.npy", mean) for number, mean in enumerate(MEANS)]
    spark_ml = fit_with_spark(bench, files)
    result = []
    for mean, file, of_spark in zip(MEANS, files, spark_ml, strict=True):
        features = np.load(file)
        reference = by_eigh(covariance_in_longdouble(features))
        fits = {name: fit(features) for name, fit in SIDES.items()} | {SPARK_ML: of_spark}
        sides = {name: errors(fitted, reference) for name, fitted in fits.items()}
        check(mean, sides)
        result.append({"mean_over_deviation": mean, "sides": sides})
        print(f"mean {mean:.0e}: {json.dumps(sides)}", flush=True)
    return {"rows": ROWS, "dimensions": DIMENSIONS, "axes": AXES, "means": result}


def write_features(file: Path, mean: float) -> Path:
    """Write features with this mean, in standard deviations. Their variances decrease to 1e-4 and zero."""
    random = np.random.default_rng(20261122)
    factors = random.normal(size=(ROWS, INDEPENDENT)) * np.geomspace(1, 0.01, INDEPENDENT)
    features = factors @ random.normal(size=(INDEPENDENT, DIMENSIONS)) / np.sqrt(INDEPENDENT)
    features += mean * features.std(axis=0) * random.uniform(0.5, 1.5, size=DIMENSIONS)
    np.save(file, features)
    return file


def covariance_in_longdouble(features: Floats) -> Floats:
    """Return the covariance, exact to the last bit of a double."""
    exact = features.astype(np.longdouble)
    deviations = exact - exact.mean(axis=0)
    return (deviations.T @ deviations / (len(features) - 1)).astype(np.float64)


Fit = tuple[Floats, Floats, float]
"""Explained variance ratios, descending; axes as rows; and the smallest eigenvalue over the largest."""


def by_eigh(covariance: Floats) -> Fit:
    """Decompose a covariance and keep negative eigenvalues."""
    eigenvalues, axes = np.linalg.eigh(covariance)
    return eigenvalues[::-1] / eigenvalues.sum(), axes.T[::-1], float(eigenvalues[0] / eigenvalues[-1])


def ours(features: Floats) -> Fit:
    """Fit as the job does."""
    gathered = moments.accumulate(blocks.refill([features]), DIMENSIONS)
    fitted = decomposition.fit(gathered, n_components=DIMENSIONS)
    return fitted.explained_variance_ratio, fitted.components, float(fitted.eigenvalues[-1] / fitted.eigenvalues[0])


def textbook(features: Floats) -> Fit:
    """Fit from the covariance Σxxᵀ − nμμᵀ, in one pass."""
    n, mean = len(features), features.mean(axis=0)
    return by_eigh((features.T @ features - n * np.outer(mean, mean)) / (n - 1))


def scikit_learn(solver: str) -> Callable[[Floats], Fit]:
    """Return the fit function for a scikit-learn solver."""

    def fit(features: Floats) -> Fit:
        from sklearn.decomposition import PCA

        fitted = PCA(svd_solver=solver).fit(features)
        variances = fitted.explained_variance_
        return fitted.explained_variance_ratio_, fitted.components_, float(variances[-1] / variances[0])

    return fit


SIDES: dict[str, Callable[[Floats], Fit]] = {
    OURS: ours,
    TEXTBOOK: textbook,
    "scikit-learn, its default (covariance_eigh)": scikit_learn("auto"),
    "scikit-learn, full": scikit_learn("full"),
}


def fit_with_spark(bench: Bench, files: list[Path]) -> list[Fit]:
    """Fit with Spark ML in a separate process."""
    process.measure_module(
        "benchmarks.accuracy",
        *(bench.master, *map(str, files)),
        folder=bench.work,
        environment={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
        log_file=bench.work / "spark-ml.log",
    )
    fits = [np.load(file.with_suffix(".npz")) for file in files]
    return [(fit["ratios"], fit["axes"], float(fit["ratios"][-1] / fit["ratios"][0])) for fit in fits]


def main(master: str, *files: str) -> None:
    """Fit Spark ML's PCA on every file and write ratios and axes to an .npz file in the same folder."""
    from pyspark.ml.feature import PCA
    from pyspark.ml.linalg import Vectors
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.master(master).config("spark.ui.enabled", "false").getOrCreate()
    for file in map(Path, files):
        frame = spark.createDataFrame([(Vectors.dense(row),) for row in np.load(file)], ["features"])
        model = PCA(k=DIMENSIONS, inputCol="features", outputCol="components").fit(frame)
        np.savez(file.with_suffix(".npz"), ratios=model.explainedVariance.toArray(), axes=model.pc.toArray().T)
    spark.stop()


def errors(found: Fit, reference: Fit) -> dict[str, float]:
    """Return the largest ratio error, the sine of the largest angle between subspaces, and the least eigenvalue."""
    (ratios, axes, least), (exact_ratios, exact_axes, _) = found, reference
    # The part of our subspace outside the reference's subspace (Björck and Golub 1973).
    outside = axes[:AXES] @ exact_axes[AXES:].T
    return {
        "ratio_error": float(np.abs(ratios - exact_ratios).max()),
        "sine_of_angle": float(np.linalg.norm(outside, ord=2)),
        "least_eigenvalue": least,
    }


def check(mean: float, sides: dict[str, dict[str, float]]) -> None:
    """Raise if our result is worse than that of Σxxᵀ − nμμᵀ or has a negative variance."""
    found = sides[OURS]
    worse = [name for name in ("ratio_error", "sine_of_angle") if found[name] > max(ROUNDING, sides[TEXTBOOK][name])]
    if worse or found["least_eigenvalue"] < 0:
        raise SystemExit(
            f"our result is wrong at a mean of {mean} deviations: {found}; Σxxᵀ − nμμᵀ has {sides[TEXTBOOK]}"
        )


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table: the errors of ratios and axes for every side and mean."""
    means = result["means"]
    header = [
        f"error of ratios / of the first {result['axes']} axes, at mean / deviation =",
        *(f"{each['mean_over_deviation']:,.0f}" for each in means),
    ]
    rows = [[name, *(_cell(each["sides"][name]) for each in means)] for name in means[0]["sides"]]
    return markdown(header, rows)


def _cell(side: dict[str, float]) -> str:
    negative = " (variances < 0)" if side["least_eigenvalue"] < -ROUNDING else ""
    return f"{side['ratio_error']:.0e} / {side['sine_of_angle']:.0e}{negative}"


if __name__ == "__main__":
    main(*sys.argv[1:])
