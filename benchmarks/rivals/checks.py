"""What every lap of every side has to fulfil before its time counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from benchmarks.rivals.engines import DIMENSIONS

TOLERANCE = 2e-4
"""Largest absolute difference of a feature between two engines in float32. Features are between 0 and 6; LiteRT's and
Keras' of a photo differ by some 3e-5."""


@dataclass(frozen=True)
class Features:
    """What a side has written.

    Attributes
    ----------
    names : tuple of str
        ``<label>/<file>`` of each row.
    labels : tuple of str
        Label of each row.
    vectors : numpy.ndarray of shape (rows, 1280), float32
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: npt.NDArray[np.float32]


def read(folder: Path, images: Path) -> Features:
    """Read a Parquet dataset with the columns path, label and features.

    Parameters
    ----------
    folder : Path
        Where a side has written.
    images : Path
        Folder of the photos; the paths are below it, whatever scheme a side writes before them.

    Raises
    ------
    ValueError
        When a column is missing or has another type, a vector another length, or a path is not below the photos.
    """
    table = ds.dataset(folder, format="parquet").to_table(columns=["path", "label", "features"])
    features = table["features"].combine_chunks()
    if not (pa.types.is_list(features.type) or pa.types.is_large_list(features.type)):
        raise ValueError(f"features are {features.type}, expected lists of float32")
    if features.type.value_type != pa.float32() or features.null_count or features.flatten().null_count:
        raise ValueError(f"features are {features.type} with missing ones, expected float32 and none missing")
    lengths = Counter(features.value_lengths().to_pylist())
    if set(lengths) - {DIMENSIONS}:
        raise ValueError(f"vectors have the lengths {dict(lengths)}, expected {DIMENSIONS}")
    vectors = features.flatten().to_numpy(zero_copy_only=False).reshape(-1, DIMENSIONS)
    names = tuple(_below(path, images) for path in table["path"].to_pylist())
    return Features(names, tuple(table["label"].to_pylist()), vectors)


def _below(path: str, images: Path) -> str:
    for text in (path, unquote(path)):
        _, found, name = text.partition(f"{images}/")
        if found:
            return name
    raise ValueError(f"the path {path} is not below {images}")


def check(found: Features, expected: frozenset[str]) -> None:
    """Hold a side's rows against the photos.

    Raises
    ------
    ValueError
        When a photo is missing or doubled, a row is of no photo, a label is not its folder's name, or a value is not
        finite.
    """
    counts = Counter(found.names)
    _refuse("missing", expected - counts.keys())
    _refuse("of no photo", counts.keys() - expected)
    _refuse("doubled", {name for name, count in counts.items() if count > 1})
    pairs = zip(found.names, found.labels, strict=True)
    _refuse("with a wrong label", {name for name, label in pairs if Path(name).parent.name != label})
    finite = np.isfinite(found.vectors).all(axis=1)
    _refuse("with values that are not finite", {found.names[row] for row in np.flatnonzero(~finite)})


def _refuse(what: str, names: set[str] | frozenset[str]) -> None:
    if names:
        raise ValueError(f"{len(names)} rows {what}, the first is {min(names)}")


def difference(found: Features, reference: Features) -> float:
    """Return the largest absolute difference between two sides' features of a photo, both checked.

    Raises
    ------
    ValueError
        When it is more than :data:`TOLERANCE`.
    """
    rows = {name: row for row, name in enumerate(found.names)}
    order = [rows[name] for name in reference.names]
    differences = np.abs(found.vectors[order] - reference.vectors).max(axis=1)
    worst = int(differences.argmax())
    if differences[worst] > TOLERANCE:
        raise ValueError(
            f"features of {reference.names[worst]} differ from ours by {differences[worst]:.1e}, expected at most "
            f"{TOLERANCE:.0e}; so do those of {int((differences > TOLERANCE).sum())} of {len(order)} photos"
        )
    return float(differences[worst])
