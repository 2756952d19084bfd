"""Measure the certificate of quality and the drift on real photos after known changes, for docs/quality.md.

``python -m scripts.measure_drift MODEL IMAGES``: folders of an exported model and of photos, ``<label>/<name>.jpg``.
"""

from __future__ import annotations

import argparse
import functools
import io
import operator
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageEnhance
import PIL.ImageFilter

from spark_jobs.images import decoding
from spark_jobs.model import mobilenet
from spark_jobs.numerics import decomposition, moments
from spark_jobs.quality import certificate, drift

Picture = PIL.Image.Image

TRIALS = 10
THRESHOLD = 0.1


def brightness(factor: float) -> Callable[[Picture], Picture]:
    """Return a function that changes the brightness of a picture."""
    return lambda picture: PIL.ImageEnhance.Brightness(picture).enhance(factor)


def compress(picture: Picture) -> Picture:
    """Return a picture after JPEG compression at low quality."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=30)
    return PIL.Image.open(file)


CHANGES: dict[str, Callable[[Picture], Picture]] = {
    "10 % darker": brightness(0.9),
    "20 % darker": brightness(0.8),
    "half as bright": brightness(0.5),
    "half as bright again": brightness(1.5),
    "half the width and height": lambda picture: picture.resize((picture.width // 2, picture.height // 2)),
    "JPEG of quality 30": compress,
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "blurred (radius of 2 pixels)": lambda picture: picture.filter(PIL.ImageFilter.GaussianBlur(2)),
}


def features_of(files: list[Path], extract: mobilenet.Extract, change: Callable[[Picture], Picture]) -> Any:
    """Return the features of photos after a change, computed as in the job."""
    import numpy as np

    side = (decoding.SIDE, decoding.SIDE)
    pictures = (change(PIL.Image.open(file).convert("RGB")).resize(side) for file in files)
    return np.stack([extract(np.asarray(picture)).copy() for picture in pictures])


def fit(vectors: Any) -> tuple[decomposition.FittedPca, Any]:
    """Return the PCA of vectors with the default target, and their covariance."""
    computed = moments.compute(vectors.astype("float64"))
    return decomposition.fit(computed, 0.8), computed.covariance


def drift_row(name: str, pairs: Iterable[tuple[Any, Any]]) -> str:
    """Return a table row: means over pairs of sets of vectors, and the number of pairs with a warning."""
    records = []
    for before, after in pairs:
        previous, (current, covariance) = fit(before)[0], fit(after)
        records.append(drift.compare(previous, current, covariance, THRESHOLD))

    def mean(*keys: str) -> float:
        """Return the mean absolute value of a figure, given its keys in the records, the outermost first."""
        return sum(abs(functools.reduce(operator.getitem, keys, record)) for record in records) / len(records)

    measures = [f"{mean(name, 'value'):.3f} ({mean(name, 'by_chance'):.3f})" for name in drift.MEASURES]
    ks = " → ".join(f"{mean('k', side):.0f}" for side in ("previous", "current"))
    angles = f"{mean('largest_angle'):.0f}°"
    distance = f"{mean('subspace_distance'):.2f}"
    warned = sum(bool(record["warnings"]) for record in records)
    verdict = f"{warned} of {len(records)}" if len(records) > 1 else "yes" if warned else "no"
    return f"| {name} | {ks} | {' | '.join(measures)} | {angles} | {distance} | {verdict} |"


def drift_table(vectors: Any, files: list[Path], extract: mobilenet.Extract) -> Iterable[str]:
    """Yield the lines of the drift table, relative to the features of the unchanged photos."""
    import numpy as np

    labels = np.array([file.parent.name for file in files])
    names = np.unique(labels)

    def halves(count: int) -> Iterable[tuple[Any, Any]]:
        for trial in range(TRIALS):
            order = np.random.default_rng(trial).permutation(len(files))[:count]
            yield vectors[order[: count // 2]], vectors[order[count // 2 :]]

    def without(count: int) -> Iterable[Any]:
        for trial in range(TRIALS):
            yield vectors[~np.isin(labels, np.random.default_rng(trial).choice(names, count, replace=False))]

    def disjoint() -> Iterable[tuple[Any, Any]]:
        for trial in range(TRIALS):
            chosen = np.isin(labels, np.random.default_rng(trial).choice(names, len(names) // 2, replace=False))
            yield vectors[chosen], vectors[~chosen]

    yield "| change | k | mean_shift | variance_change | variance_missed | largest angle | subspace_distance | warns |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    yield drift_row("random halves of the photos", halves(len(files)))
    yield drift_row("random halves of 200 photos", halves(200))
    yield drift_row("a quarter of the photos is new", ((v[: len(v) * 3 // 4], v) for v in _shuffled(vectors)))
    for count in (1, len(names) // 4, len(names) // 2):
        yield drift_row(f"{count} of {len(names)} labels left out", ((vectors, rest) for rest in without(count)))
        yield drift_row(f"{count} of {len(names)} labels new", ((rest, vectors) for rest in without(count)))
    yield drift_row("other labels altogether", disjoint())
    for name, change in CHANGES.items():
        yield drift_row(name, [(vectors, features_of(files, extract, change))])
    noise = np.random.default_rng(0).normal(vectors.mean(0), vectors.std(0), vectors.shape)
    yield drift_row("noise of the same means and deviations", [(vectors, noise)])


def _shuffled(vectors: Any) -> Iterable[Any]:
    import numpy as np

    for trial in range(TRIALS):
        yield np.random.default_rng(trial).permutation(vectors)


def quality_table(vectors: Any, labels: list[str]) -> Iterable[str]:
    """Yield the lines of the quality table by number of components."""
    fitted = decomposition.fit(moments.compute(vectors.astype("float64")), n_components=300)
    yield "| components | variance | knn_accuracy | lost, gained | silhouette | variance missed | rmse |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for k in (1, 2, 5, 10, 20, 39, 100, 300):
        kept = replace(fitted, components=fitted.components[:k])
        record = certificate.certify(vectors, labels, kept, 0)
        accuracy, rebuilt = record["knn_accuracy"], record["reconstruction"]
        yield (
            f"| {k} | {kept.variance_reached:.1%} | {accuracy['components']:.1%} | {accuracy['lost']}, "
            f"{accuracy['gained']} | {record['silhouette']['components']:.3f} | {rebuilt['variance_missed']:.1%} | "
            f"{rebuilt['rmse']:.3f} |"
        )
    yield (
        f"| all {len(fitted.mean)} features | 100.0% | {accuracy['features']:.1%} | | "
        f"{record['silhouette']['features']:.3f} | 0.0% | 0.000 |"
    )


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    options = parser.parse_args()
    model = mobilenet.read(options.model.resolve().as_uri())
    extract = mobilenet.load_extractor(model.digest, model.flatbuffer)
    files = sorted(options.images.rglob("*.jpg"))
    vectors = features_of(files, extract, lambda picture: picture)
    for table in (
        quality_table(vectors, [file.parent.name for file in files]),
        drift_table(vectors, files, extract),
    ):
        for line in table:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
