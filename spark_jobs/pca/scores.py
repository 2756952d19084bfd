"""The scores of the images: one pass over the features, each part in a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.errors import JobError
from spark_jobs.lake import row_groups, storage
from spark_jobs.lake.parts import Piece
from spark_jobs.lake.schemas import SCORES
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.numerics.stored_moments import VectorsDigest
from spark_jobs.pca import blocks
from spark_jobs.pca.blocks import Block
from spark_jobs.quality import sampling
from spark_jobs.quality.sampling import Sample

ROW_GROUP_BYTES = 16 * 1024 * 1024
"""Size of a row group of the scores, before compression."""


@dataclass
class Projected:
    """What a worker tells of a part whose scores it has written.

    Attributes
    ----------
    digests : dict of Piece to str
        :class:`spark_jobs.numerics.stored_moments.VectorsDigest` of every piece; empty when they were not wanted.
    samples : list of Sample
        The part's images that may be in the sample.
    """

    digests: dict[Piece, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True)
class SampleOf:
    """Which images a worker is to send to the driver.

    Attributes
    ----------
    seed : int
    largest_key : int
        What :func:`spark_jobs.quality.sampling.limit` returned.
    """

    seed: int
    largest_key: int

    def take(self, block: Block) -> Sample:
        """Return the sample's images of a block."""
        paths, labels = (column.to_pylist() for column in block.rows.columns)
        return sampling.take(paths, labels, block.vectors, seed=self.seed, largest_key=self.largest_key)


def write(
    features: str,
    part: Sequence[Piece],
    fitted: FittedPca,
    destination: str,
    sample_of: SampleOf | None = None,
    *,
    with_digests: bool = True,
) -> Projected:
    """Write the scores of a part, as ``schemas.SCORES``, in the features' order.

    It runs in a worker, with no committer: the file's name and bytes depend on the part alone and
    it is put there in one step, so that a task which Spark runs twice replaces a file by its equal.

    Parameters
    ----------
    features : str
        URI of the features' folder.
    part : sequence of Piece
    fitted : FittedPca
    destination : str
        URI of the file.
    sample_of : SampleOf, optional
        Which images to send to the driver; none by default.
    with_digests : bool
        Whether to digest the vectors.

    Raises
    ------
    JobError
        When a vector cannot be used, or a score is NaN or infinite.
    """
    result = Projected()
    digests = {piece: VectorsDigest() for piece in part} if with_digests else {}
    rows_a_group = max(blocks.BLOCK_ROWS, ROW_GROUP_BYTES // (8 * fitted.k))
    with (
        storage.writing(destination) as stream,
        pq.ParquetWriter(stream, SCORES, use_dictionary=["label"]) as writer,
    ):
        for group in row_groups.regroup(_of(features, part, fitted, sample_of, digests, result), rows_a_group):
            writer.write_batch(group)
    result.digests = {piece: str(digest) for piece, digest in digests.items()}
    return result


def _of(
    features: str,
    part: Sequence[Piece],
    fitted: FittedPca,
    sample_of: SampleOf | None,
    digests: Mapping[Piece, VectorsDigest],
    result: Projected,
) -> Iterator[pa.RecordBatch]:
    for block in blocks.read(features, part, len(fitted.mean)):
        with np.errstate(over="ignore", invalid="ignore"):  # told below, by the name of the file
            scores = fitted.transform(block.vectors)
        if not np.isfinite(scores).all():
            raise JobError(f"scores of {block.piece.path} are not finite: its features are too large to project")
        if digests:
            digests[block.piece].update(block.vectors)
        if sample_of is not None:
            result.samples.append(sample_of.take(block))
        offsets = np.arange(0, scores.size + 1, fitted.k, dtype=np.int32)
        components = pa.ListArray.from_arrays(offsets, scores.ravel())
        yield pa.RecordBatch.from_arrays([*block.rows.columns, components], schema=SCORES)
