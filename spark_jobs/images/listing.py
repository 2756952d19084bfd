"""Listing of images: everything whose name the pattern takes, whatever else it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.errors import JobError
from spark_jobs.images import not_loaded
from spark_jobs.lake import schemas, storage
from spark_jobs.lake.image_walks import walk_through
from spark_jobs.left_out import advise, describe
from spark_jobs.records import LeftOut
from spark_jobs.walk import Image, Walk


@dataclass(frozen=True)
class Listed:
    """What was listed, and what was not.

    Attributes
    ----------
    sizes : ndarray of int64, shape (n,)
        Bytes of each listed image, in the listing's order.
    left_out : list of LeftOut
        The files of the folder that are not listed because of their names; then, if there is a record of ``make run``,
        the files that it did not load into the folder.
    """

    sizes: npt.NDArray[np.int64]
    left_out: list[LeftOut]


def write(images: str, pattern: str, target: str, *, rows_per_group: int, include_hidden: bool = False) -> Listed:
    """List a folder's images into a Parquet file, without ever holding more than a row group of them.

    Parameters
    ----------
    images : str
        URI of the folder.
    pattern : str
        Patterns of file names, as for :func:`spark_jobs.args.name_matcher`.
    target : str
        URI of the Parquet file, of the columns ``schemas.LISTING``, in the order of the paths' bytes.
    rows_per_group : int
        Rows of each row group but the last.
    include_hidden : bool
        Whether hidden names (:func:`spark_jobs.args.is_hidden`) are treated like others.

    Returns
    -------
    Listed

    Raises
    ------
    JobError
        If the folder does not exist or cannot be read, if nothing in it matches, if the path of an image is not valid
        UTF-8 or, on S3, has two slashes in a row, or if the record of ``make run`` is damaged.
    """

    def write_walk(walk: Walk) -> Listed:
        rows = walk.images()
        sizes: list[npt.NDArray[np.int64]] = []
        with storage.writing(target) as stream, pq.ParquetWriter(stream, schemas.LISTING) as writer:
            while group := list(islice(rows, rows_per_group)):
                table = _table(group, images.partition("://")[0])
                writer.write_table(table, row_group_size=rows_per_group)
                sizes.append(table["size"].to_numpy())
            left_out = walk.left_out.record(images, pattern)
            if not sizes:
                raise JobError(_nothing_matches(left_out))
        # The record is read only if it was listed: a role may be refused an answer on an object that does not exist.
        return Listed(np.concatenate(sizes), [left_out, *([not_loaded.read(images)] if walk.has_record else [])])

    if not storage.is_folder(images):
        raise JobError(f"the images' folder {images} does not exist: check --images")
    return walk_through(images, pattern, write_walk, include_hidden=include_hidden)


def _nothing_matches(left_out: LeftOut) -> str:
    """Return the error message for a folder without images."""
    found = describe(left_out) or ["it is empty"]
    advice = f". {advise(left_out)}" if left_out["skipped"] else ""
    return (
        f"no file in {left_out['folder']} matches the pattern {left_out['pattern']!r} ({'; '.join(found)}): "
        f"check --images and --pattern{advice}"
    )


def _table(rows: list[Image], scheme: str) -> pa.Table:
    paths, labels, sizes, modified, _ = zip(*rows, strict=True)
    return pa.table([[f"{scheme}://{path}" for path in paths], labels, sizes, modified], schema=schemas.LISTING)
