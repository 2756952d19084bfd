"""The published scores of images that have not changed: a run that keeps the basis copies them, bit for bit.

The files of scores have the rows of the published segments, one segment after the other. Featurize records which
published segments a live segment has its rows from, so a worker reads the scores of these segments only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_jobs.args import CHANGES_FILE, FEATURES_FILE, GONE_FILE, LIVE_SEGMENTS_FILE, SCORES_FOLDER
from spark_jobs.errors import JobError
from spark_jobs.lake import schemas, storage
from spark_jobs.lake.paths import read_paths
from spark_jobs.pca.blocks import Block

ADVICE = "run once with basis=refit"


@dataclass(frozen=True)
class Group:
    """A row group of the published scores; ``start`` is the number of its first row among all."""

    uri: str
    number: int
    start: int
    rows: int


@dataclass(frozen=True)
class KeptScores:
    """Where the published scores of unchanged images are.

    Attributes
    ----------
    k : int
        Number of components.
    groups : tuple of Group
        In the order of the rows.
    ranges : dict of str to list of range
        Numbers of the published rows whose images may be in a file of features, by the file's name.
    gone : str
        URI of the paths of changed and deleted images.
    """

    k: int
    groups: tuple[Group, ...] = ()
    ranges: Mapping[str, list[range]] = field(default_factory=dict)
    gone: str = ""


def find(run: str, published: str, digest: str | None, k: int) -> KeptScores:
    """Return where the published scores of a run's unchanged images are. Reads footers only.

    Parameters
    ----------
    run, published : str
        URIs of the run's folder, and of that of the run whose state is published.
    digest : str or None
        Of the published basis.
    k : int
        Number of its components.

    Raises
    ------
    JobError
        If the published scores are not those of the published segments and the basis.
    """
    changes, live = (storage.read_json(storage.join(run, name)) for name in (CHANGES_FILE, LIVE_SEGMENTS_FILE))
    if not changes["segments"]:
        return KeptScores(k)  # all images are computed again
    folder = storage.join(published, SCORES_FOLDER)
    groups: list[Group] = []
    row = 0
    for name in sorted(name for name in storage.names(folder) if name.endswith(".parquet")):
        uri = storage.join(folder, name)
        with storage.open_file(uri) as stream:
            metadata = pq.read_metadata(stream)
        found = (metadata.metadata or {}).get(schemas.BASIS_DIGEST)
        if found is not None and found.decode() != digest:
            raise JobError(f"{uri} has scores of the basis {found.decode()}, expected {digest}: {ADVICE}")
        for number in range(metadata.num_row_groups):
            groups.append(Group(uri, number, row, metadata.row_group(number).num_rows))
            row += groups[-1].rows
    rows_of: dict[str, range] = {}
    start = 0
    for segment in changes["segments"]:
        rows_of[segment["id"]] = range(start, start + segment["features"])
        start += segment["features"]
    if row != start:
        raise JobError(f"{folder} has {row} rows, its segments have {start} images with features: {ADVICE}")
    ranges = {
        f"{id_}/{FEATURES_FILE}": [rows_of[source] for source in sources]
        for id_, sources in live.get("sources", {}).items()
    }
    return KeptScores(k, tuple(groups), ranges, storage.join(run, GONE_FILE))


class Reader:
    """Reads the scores of unchanged images in a worker; at most two row groups are in memory."""

    def __init__(self, kept: KeptScores) -> None:
        self._kept = kept
        self._starts = np.array([group.start for group in kept.groups])
        self._file: str | None = None
        self._paths = pa.array([], pa.string())
        self._rows: NDArray[np.int64] = np.array([], np.int64)
        self._components = functools.lru_cache(maxsize=2)(self._read_components)

    def find(self, block: Block) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which images of a block are unchanged, and their scores.

        Parameters
        ----------
        block : Block
            The blocks of a file should follow one another.

        Returns
        -------
        is_unchanged : ndarray of bool, shape (rows,)
        scores : ndarray of float64, shape (unchanged, k)
        """
        if block.piece.path != self._file:
            self._open(block.piece.path)
        places = pc.index_in(block.rows.column("path"), value_set=self._paths)
        is_unchanged = places.is_valid().to_numpy(zero_copy_only=False)
        rows = self._rows[places.drop_null().to_numpy()]
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        scores = np.empty((len(rows), self._kept.k))
        for number in np.unique(numbers):
            taken = numbers == number
            scores[taken] = self._components(int(number))[rows[taken] - self._starts[number]]
        return is_unchanged, scores

    def _open(self, name: str) -> None:
        """Read the paths of the published rows whose images may be in a file of features."""
        self._file = name
        paths, rows = [pa.array([], pa.string())], [np.array([], np.int64)]
        for wanted in self._kept.ranges.get(name, []):
            for number, group in enumerate(self._kept.groups):
                first, last = max(wanted.start, group.start), min(wanted.stop, group.start + group.rows)
                if first < last:
                    column = self._read(number, "path").slice(first - group.start, last - first)
                    paths += column.chunks
                    rows.append(np.arange(first, last))
        joined, numbers = pa.concat_arrays(paths), np.concatenate(rows)
        bounds = pc.min_max(joined).as_py()
        if bounds["min"] is not None:
            stays = pc.invert(pc.is_in(joined, value_set=read_paths(self._kept.gone, bounds["min"], bounds["max"])))
            joined, numbers = joined.filter(stays), numbers[stays.to_numpy(zero_copy_only=False)]
        self._paths, self._rows = joined, numbers

    def _read(self, number: int, column: str) -> pa.ChunkedArray:
        group = self._kept.groups[number]
        with storage.open_file(group.uri) as stream, pq.ParquetFile(stream) as file:
            return file.read_row_group(group.number, columns=[column], use_threads=False).column(0)

    def _read_components(self, number: int) -> NDArray[np.float64]:
        group, column = self._kept.groups[number], self._read(number, "components").combine_chunks()
        values: NDArray[np.float64] = column.flatten().to_numpy()
        if len(values) != group.rows * self._kept.k:
            found = f"{len(values)} values in {group.rows} rows"
            raise JobError(f"{group.uri} has {found}, expected {self._kept.k} in each row: {ADVICE}")
        return values.reshape(group.rows, self._kept.k)
