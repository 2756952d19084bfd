"""A classifier on the results: its accuracy on held-out photos, for two ways to hold photos out.

Neighbouring photos of a turntable hardly differ. If photos are held out at random, nearly every held-out photo has such
a neighbour in the training data, and the accuracy says little about photos of another fruit or another side of it. So
the photos of one turn (:func:`turn_of`) stay together, on one side of the split. Both ways train on half of the photos.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from benchmarks import pipeline
from benchmarks.table import Bench, markdown
from spark_jobs.args import FEATURES_FILE, SCORES_FOLDER, SEGMENTS_FOLDER

DESCRIPTION = "accuracy of a classifier on held-out photos: whole turns held out, and photos held out at random"

REPETITIONS = 10
"""Number of random splits; there are few ways to hold out whole turns, so these are split once."""

NEIGHBOURS = 5
VARIANCE = 0.8

Split = Iterable[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]

CLASSIFIERS: dict[str, Callable[[], BaseEstimator]] = {
    f"{NEIGHBOURS} nearest neighbours": lambda: KNeighborsClassifier(NEIGHBOURS),
    "logistic regression": lambda: LogisticRegression(max_iter=5_000),
}


def measure(bench: Bench) -> dict[str, Any]:
    """Run both steps, and train and test each classifier on each kind of input.

    Raises
    ------
    SystemExit
        If the names of the photos do not tell the turns apart.
    """
    name = "classifier"
    pipeline.featurize(bench, bench.images, name)
    pipeline.pca(bench, name)
    run = pipeline.run_folder(bench, name)
    photos = read_photos(run)
    return {"photos": len(photos), "components": len(photos["components"].iloc[0]), "rows": compare(photos)}


def read_photos(run: Path) -> pd.DataFrame:
    """Return path, label, components and features of each photo of a run."""
    scores = pd.read_parquet(run / SCORES_FOLDER)
    segments = sorted((run / SEGMENTS_FOLDER).glob(f"*/{FEATURES_FILE}"))
    features = pd.concat(pd.read_parquet(file, columns=["path", "features"]) for file in segments)
    return scores.merge(features, on="path", validate="one_to_one").sort_values("path", ignore_index=True)


def turn_of(path: str) -> str:
    """Return the label and the turn of a photo: the text before the number of the photo.

    Fruits-360 names a photo ``<number>_100.jpg``, and ``r_…``, ``r2_…`` if the fruit turned around another axis.
    """
    label, name = path.rsplit("/", 2)[-2:]
    return f"{label}/{re.sub(r'[0-9]+(_[0-9]+)?[.][^.]*$', '', name)}"


def compare(photos: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the accuracy of each classifier by input: mean, lowest and highest half, whole turns and at random.

    Parameters
    ----------
    photos : DataFrame
        ``n`` photos with ``path``, ``label``, ``components`` and ``features``.
    """
    labels, turns = photos["label"], photos["path"].map(turn_of)
    alone = sorted(labels[turns.groupby(labels).transform("nunique") < 2].unique())
    if alone:
        raise SystemExit(f"photos of one turn only, so no turn can be held out: {', '.join(alone)}")
    components, features = (np.stack(photos[column].tolist()) for column in ("components", "features"))
    whole = list(StratifiedGroupKFold(2).split(components, labels, turns))
    random = [
        pair
        for seed in range(REPETITIONS)
        for pair in StratifiedKFold(2, shuffle=True, random_state=seed).split(components, labels)
    ]
    rows = []
    for name, make in CLASSIFIERS.items():
        inputs = {
            "components": (make(), components),
            "components fitted on the training half alone": (make_pipeline(PCA(VARIANCE), make()), features),
            "features": (make(), features),
        }
        for what, (classifier, values) in inputs.items():
            row = {
                "classifier": name,
                "input": what,
                "turns": _accuracy(classifier, values, labels, whole),
                "random": _accuracy(classifier, values, labels, random),
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def _accuracy(
    classifier: BaseEstimator, values: npt.NDArray[np.floating[Any]], labels: pd.Series, split: Split
) -> dict[str, float]:
    shares = cross_val_score(classifier, values, labels, cv=list(split))
    return {"mean": float(shares.mean()), "lowest": float(shares.min()), "highest": float(shares.max())}


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table as Markdown."""
    header = ["classifier, input", "whole turns held out", "photos held out at random"]
    return markdown(header, [_line(row) for row in result["rows"]])


def _line(row: dict[str, Any]) -> Sequence[str]:
    cells = (
        f"{row[how]['mean']:.1%} ({row[how]['lowest']:.1%}–{row[how]['highest']:.1%})" for how in ("turns", "random")
    )
    return [f"{row['classifier']}, {row['input']}", *cells]
