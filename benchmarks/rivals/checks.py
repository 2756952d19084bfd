"""Checks of the rows of every lap; only the time of a correct lap counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds

from benchmarks.rivals.engines import DIMENSIONS

TOLERANCE = 2e-4
"""Largest allowed absolute difference of a feature between two engines in float32. Features are between 0 and 6; those
of LiteRT and Keras differ by about 3e-5."""


@dataclass(frozen=True)
class Features:
    """The rows that a side has written.

    Attributes
    ----------
    names : tuple of str
        ``<label>/<file>`` of each row.
    labels : tuple of str
        Label of each row.
    vectors : numpy.ndarray of shape (rows, 1280), float32
        Features of each row.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    vectors: npt.NDArray[np.float32]


def read(output: Path | Sequence[Path], images: Path) -> Features:
    """Read a Parquet dataset with the columns path, label and features.

    Parameters
    ----------
    output : Path or sequence of Path
        Folder, or files, that a side has written.
    images : Path
        Folder of the photos. The paths are below it, with or without a URI scheme.

    Raises
    ------
    ValueError
        If a column has a wrong type, a vector has a wrong length, or a path is not below the folder of the photos.
    """
    source = output if isinstance(output, Path) else [str(file) for file in output]
    table = ds.dataset(source, format="parquet").to_table(columns=["path", "label", "features"])
    features = table["features"].combine_chunks()
    if not (pa.types.is_list(features.type) or pa.types.is_large_list(features.type)):
        raise ValueError(f"features are {features.type}, expected lists of float32")
    if features.type.value_type != pa.float32() or features.null_count or features.flatten().null_count:
        raise ValueError(
            f"features are {features.type} or have missing values, expected float32 without missing values"
        )
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
    """Compare the rows of a side with the photos.

    Raises
    ------
    ValueError
        If a photo is missing or duplicated, a row belongs to no photo, a label is not the name of the photo's folder,
        or a value is not finite.
    """
    counts = Counter(found.names)
    _refuse("missing", expected - counts.keys())
    _refuse("without a photo", counts.keys() - expected)
    _refuse("duplicated", {name for name, count in counts.items() if count > 1})
    pairs = zip(found.names, found.labels, strict=True)
    _refuse("with a wrong label", {name for name, label in pairs if Path(name).parent.name != label})
    finite = np.isfinite(found.vectors).all(axis=1)
    _refuse("with values that are not finite", {found.names[row] for row in np.flatnonzero(~finite)})


def _refuse(what: str, names: set[str] | frozenset[str]) -> None:
    if names:
        raise ValueError(f"{len(names)} rows {what}, the first is {min(names)}")


def difference(found: Features, reference: Features) -> float:
    """Return the largest absolute difference between the features of two checked sides, photo by photo.

    Raises
    ------
    ValueError
        If it exceeds :data:`TOLERANCE`.
    """
    rows = {name: row for row, name in enumerate(found.names)}
    order = [rows[name] for name in reference.names]
    differences = np.abs(found.vectors[order] - reference.vectors).max(axis=1)
    worst = int(differences.argmax())
    if differences[worst] > TOLERANCE:
        raise ValueError(
            f"features of {reference.names[worst]} differ from ours by {differences[worst]:.1e}, expected at most "
            f"{TOLERANCE:.0e}; {int((differences > TOLERANCE).sum())} of {len(order)} photos differ by more"
        )
    return float(differences[worst])
