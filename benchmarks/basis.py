"""A classifier that was trained on the scores of day 1, applied unchanged to photos that arrive on day 10.

Ten days are simulated on the features of real photos, with the functions of the pca job: moments, fit, choice of the
basis, projection. With ``refit`` every day has components of its own; with ``keep`` the published ones stay until the
drift exceeds the threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageEnhance
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.inputs import PATTERN
from benchmarks.table import Bench, markdown
from local.images.loading import find_images
from spark_jobs.args import KEEP_BASIS, REFIT_BASIS, PcaArgs
from spark_jobs.images import decoding
from spark_jobs.model import mobilenet
from spark_jobs.numerics import decomposition, moments
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.pca import basis

DESCRIPTION = (
    "accuracy on day 10 of a classifier that was trained on the scores of day 1, with kept and refitted components"
)

DAYS = 10
FIRST_SHARE = 0.5
"""Share of the photos that are there on day 1."""

Vectors = NDArray[np.float32]
Labels = NDArray[np.str_]

SEED = 20261128


@dataclass(frozen=True)
class Photos:
    """Features and labels of photos.

    Attributes
    ----------
    vectors, dark : ndarray of float32, shape (n, d)
        Features of the photos as they are, and half as bright.
    labels : ndarray of str, shape (n,)
    """

    vectors: Vectors
    dark: Vectors
    labels: Labels


@dataclass(frozen=True)
class Day:
    """The photos that arrive on a day."""

    vectors: Vectors
    labels: Labels


@dataclass(frozen=True)
class Last:
    """What a lake has on the last day.

    Attributes
    ----------
    first, last : FittedPca
        The bases of the scores of day 1 and of the last day.
    refits : tuple of int
        Days on which the components were fitted, apart from day 1.
    """

    first: FittedPca
    last: FittedPca
    refits: tuple[int, ...]


def measure(bench: Bench) -> dict[str, Any]:
    """Simulate every story with both ways to choose the basis."""
    photos = read_photos(bench)
    result = []
    for story, arrive in STORIES.items():
        days = arrive(photos)
        for name, options in SETTINGS.items():
            row: dict[str, Any] = {"story": story, "setting": name, "photos": len(days[-1].labels)}
            for how in (REFIT_BASIS, KEEP_BASIS):
                row[how] = judge(days, live(days, PcaArgs("file:///run", basis=how, **options)))
            result.append(row)
            print(row, flush=True)
    return {"days": DAYS, "photos": len(photos.labels), "rows": result}


SETTINGS: dict[str, dict[str, Any]] = {
    "variance_target 0.8": {"variance_target": 0.8},
    "n_components 20": {"variance_target": None, "n_components": 20},
}


def read_photos(bench: Bench) -> Photos:
    """Compute the features of all photos, as they are and half as bright, as the featurize job does."""
    model = mobilenet.read(bench.model.resolve().as_uri())
    extract = mobilenet.load_extractor(model.digest, model.flatbuffer)
    files = sorted(find_images(bench.images, PATTERN).values())
    side = (decoding.SIDE, decoding.SIDE)

    def features(change: Callable[[PIL.Image.Image], PIL.Image.Image]) -> Vectors:
        pictures = (change(PIL.Image.open(file).convert("RGB")).resize(side) for file in files)
        return np.stack([extract(np.asarray(picture)).copy() for picture in pictures])

    bright, dark = (
        features(lambda picture: picture),
        features(lambda each: PIL.ImageEnhance.Brightness(each).enhance(0.5)),
    )
    return Photos(bright, dark, np.array([file.parent.name for file in files]))


def share_out(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return the rows of each day: half of them on day 1, the others in equal shares on the days after it."""
    order = np.random.default_rng(SEED).permutation(rows)
    first = round(FIRST_SHARE * len(order))
    return [order[:first], *np.array_split(order[first:], DAYS - 1)]


def more_of_the_same(photos: Photos) -> list[Day]:
    """All labels are there from the beginning."""
    return [Day(photos.vectors[rows], photos.labels[rows]) for rows in share_out(np.arange(len(photos.labels)))]


def new_labels(photos: Photos) -> list[Day]:
    """A quarter of the labels arrive on the days 2 to 9, beside photos of the others; day 10 has known labels only."""
    names = np.random.default_rng(SEED).permutation(np.unique(photos.labels))
    late = names[: len(names) // 4]
    known = np.flatnonzero(~np.isin(photos.labels, late))
    arriving = np.array_split(
        np.random.default_rng(SEED).permutation(np.flatnonzero(np.isin(photos.labels, late))), DAYS - 2
    )
    days = [*zip(share_out(known), [known[:0], *arriving, known[:0]], strict=True)]
    return [Day(photos.vectors[rows], photos.labels[rows]) for rows in map(np.concatenate, days)]


def darker(photos: Photos) -> list[Day]:
    """From day 6 on, the photos are half as bright."""
    shares = share_out(np.arange(len(photos.labels)))
    kinds = [photos.vectors if day < 6 else photos.dark for day in range(1, DAYS + 1)]
    return [Day(kind[rows], photos.labels[rows]) for kind, rows in zip(kinds, shares, strict=True)]


STORIES: dict[str, Callable[[Photos], list[Day]]] = {
    "more photos of the same labels": more_of_the_same,
    "a quarter of the labels is new": new_labels,
    "from day 6 on half as bright": darker,
}


def live(days: Sequence[Day], arguments: PcaArgs) -> Last:
    """Fit, keep and refit as the job does on these days."""
    total = moments.empty(days[0].vectors.shape[1])
    published: basis.Published | None = None
    first: FittedPca | None = None
    refits: list[int] = []
    for number, day in enumerate(days, 1):
        total = moments.merge(total, moments.compute(day.vectors.astype(np.float64)))
        fresh = decomposition.fit(total, arguments.variance_target, arguments.n_components, arguments.scores)
        if (
            published
            and arguments.basis == KEEP_BASIS
            and not basis.why_not(published, arguments, fresh, total.covariance)[0]
        ):
            continue
        file = fresh.to_npz()
        requested = {name: getattr(arguments, name) for name in basis.ARGUMENTS}
        in_use: Any = {"digest": hashlib.sha256(file).hexdigest(), "since": f"day {number}"}
        published = basis.Published("", file, fresh, in_use, requested)
        refits += [number] if number > 1 else []
        first = first or fresh
    assert first is not None
    assert published is not None
    return Last(first, published.model, tuple(refits))


def judge(days: Sequence[Day], lake: Last) -> dict[str, Any]:
    """Train on the scores of day 1, and predict the labels of the last day's photos.

    Returns
    -------
    dict
        ``accuracy`` is None if the last day has another number of components: the classifier refuses its scores.
        ``trained_again`` is the accuracy of one that was trained on the last day's scores of the photos of day 1.
    """

    def accuracy(trained_with: FittedPca) -> float | None:
        if trained_with.k != lake.last.k:
            return None
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
        classifier.fit(trained_with.transform(days[0].vectors), days[0].labels)
        return float(classifier.score(lake.last.transform(days[-1].vectors), days[-1].labels))

    return {
        "k": [lake.first.k, lake.last.k],
        "refits": list(lake.refits),
        "accuracy": accuracy(lake.first),
        "trained_again": accuracy(lake.last),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table: a row per story and setting."""
    header = [
        "story",
        "setting",
        "unseen photos",
        "refit: k",
        "refit: accuracy",
        "keep: k",
        "keep: accuracy",
        "keep: fitted again",
        "trained again on day 10",
    ]
    rows = []
    for row in result["rows"]:
        refit, keep = row[REFIT_BASIS], row[KEEP_BASIS]
        fitted = ", ".join(f"day {number}" for number in keep["refits"]) or "never"
        cells = [
            f"{refit['k'][0]} → {refit['k'][1]}",
            _share(refit["accuracy"]),
            f"{keep['k'][0]} → {keep['k'][1]}",
            _share(keep["accuracy"]),
        ]
        rows.append([row["story"], row["setting"], f"{row['photos']}", *cells, fitted, _share(refit["trained_again"])])
    return markdown(header, rows)


def _share(accuracy: float | None) -> str:
    return "refuses: another k" if accuracy is None else f"{accuracy:.1%}"
