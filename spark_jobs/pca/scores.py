"""The scores of the images: each worker projects one part of the features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_jobs.errors import JobError
from spark_jobs.insights.collection import Collected, Collector, Rule
from spark_jobs.lake import row_groups, storage
from spark_jobs.lake.parts import Piece
from spark_jobs.lake.schemas import BASIS_DIGEST, SCORES
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.numerics.stored_moments import VectorsDigest
from spark_jobs.pca import blocks
from spark_jobs.pca.blocks import Block
from spark_jobs.pca.kept_scores import KeptScores, Reader
from spark_jobs.quality import sampling
from spark_jobs.quality.sampling import Sample

ROW_GROUP_BYTES = 16 * 1024 * 1024
"""Size of a row group of the scores, before compression."""


@dataclass
class ProjectedPart:
    """What a worker reports about a part whose scores it wrote.

    Attributes
    ----------
    digests : dict of Piece to str
        :class:`spark_jobs.numerics.stored_moments.VectorsDigest` of every piece; empty if not requested.
    samples : list of Sample
        The part's candidates for the sample.
    collected : Collected or None
        What the report may show of the part's photos; None if it was not requested, or if collecting it failed.
    copied : int
        Number of images whose scores were copied from the published ones.
    """

    digests: dict[Piece, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    collected: Collected | None = None
    copied: int = 0


@dataclass(frozen=True)
class SampleRule:
    """Selects the images that a worker sends to the driver.

    Attributes
    ----------
    seed : int
    largest_key : int
        The result of :func:`spark_jobs.quality.sampling.limit`.
    """

    seed: int
    largest_key: int

    def select(self, block: Block) -> Sample:
        """Return the images of a block that the rule selects."""
        paths, labels = (column.to_pylist() for column in block.rows.columns)
        return sampling.select(paths, labels, block.vectors, seed=self.seed, largest_key=self.largest_key)


def write(
    features: str,
    part: Sequence[Piece],
    fitted: FittedPca,
    destination: str,
    rule: SampleRule | None = None,
    insights: Rule | None = None,
    *,
    with_digests: bool = True,
    basis: str | None = None,
    kept: KeptScores | None = None,
) -> ProjectedPart:
    """Write the scores of a part as ``schemas.SCORES``, in the order of the features.

    This runs in a worker, without a committer. The file's name and bytes depend on the part alone, and the file is
    written atomically: if Spark runs a task twice, the second run replaces the file by an equal one.

    Parameters
    ----------
    features : str
        URI of the folder of all segments.
    part : sequence of Piece
    fitted : FittedPca
    destination : str
        URI of the file.
    rule : SampleRule, optional
        Selects the images to send to the driver; none by default.
    insights : Rule, optional
        Says what to collect for the report; nothing by default.
    with_digests : bool
        Whether to compute digests of the vectors.
    basis : str, optional
        Digest of the basis, for the file's footer.
    kept : KeptScores, optional
        The published scores of unchanged images, which are copied; by default, all images are projected.

    Raises
    ------
    JobError
        If a vector is invalid, a score is NaN or infinite, or published scores cannot be read.
    """
    result = ProjectedPart()
    collector = insights.collector() if insights else None
    reader = Reader(kept) if kept else None
    digests = {piece: VectorsDigest() for piece in part} if with_digests else {}
    rows_per_group = max(blocks.BLOCK_ROWS, ROW_GROUP_BYTES // (8 * fitted.k))
    with (
        storage.writing(destination) as stream,
        pq.ParquetWriter(stream, SCORES, use_dictionary=["label"]) as writer,
    ):
        if basis is not None:
            writer.add_key_value_metadata({BASIS_DIGEST: basis})
        batches = _score_batches(features, part, fitted, rule, collector, digests, reader, result)
        for group in row_groups.regroup(batches, rows_per_group):
            writer.write_batch(group)
    if collector is not None:
        result.collected = collector.result()
    result.digests = {piece: str(digest) for piece, digest in digests.items()}
    return result


def _score_batches(
    features: str,
    part: Sequence[Piece],
    fitted: FittedPca,
    rule: SampleRule | None,
    collector: Collector | None,
    digests: Mapping[Piece, VectorsDigest],
    reader: Reader | None,
    result: ProjectedPart,
) -> Iterator[pa.RecordBatch]:
    for block in blocks.read(features, part, len(fitted.mean)):
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, with the name of the file
            scores, copied = _project(block, fitted, reader)
        result.copied += copied
        if not np.isfinite(scores).all():
            file = storage.join(features, block.piece.path)
            raise JobError(f"scores of {file} are not finite: its features are too large to project")
        if digests:
            digests[block.piece].update(block.vectors)
        if rule is not None:
            result.samples.append(rule.select(block))
        if collector is not None:
            paths, labels = (column.to_pylist() for column in block.rows.columns)
            collector.add(paths, labels, scores)
        offsets = np.arange(0, scores.size + 1, fitted.k, dtype=np.int32)
        components = pa.ListArray.from_arrays(offsets, scores.ravel())
        yield pa.RecordBatch.from_arrays([*block.rows.columns, components], schema=SCORES)


def _project(block: Block, fitted: FittedPca, reader: Reader | None) -> tuple[NDArray[np.float64], int]:
    """Return the scores of a block, and how many of them were copied from the published ones."""
    if reader is None:
        return fitted.transform(block.vectors), 0
    is_unchanged, published = reader.find(block)
    if is_unchanged.all():
        return published, len(published)
    scores = np.empty((len(is_unchanged), fitted.k))
    scores[is_unchanged] = published
    scores[~is_unchanged] = fitted.transform(block.vectors[~is_unchanged])
    return scores, len(published)
