"""Thumbnails of the photos that the report shows, and the digests of their files.

Photos are decoded in the child process of :mod:`spark_jobs.images.decoder`: a file that crashes it has no thumbnail.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from spark_jobs.args import APPLY_ORIENTATION
from spark_jobs.images import decoder, reading
from spark_jobs.images.decoding import Pixels
from spark_jobs.images.rejects import Reject
from spark_jobs.insights import thumbnail_child
from spark_jobs.lake import storage
from spark_jobs.runtime import workers

if TYPE_CHECKING:
    from pyspark import SparkContext

SIDE = 80
"""Width and height of a thumbnail in pixels."""

MAX_BYTES = 1300
"""Size of the largest thumbnail: 1,400 of them take 2.4 MB in the report."""

QUALITIES = (60, 35, 10)
"""WebP's qualities: the first one whose thumbnail is small enough is used. A fruit on white takes 800 bytes at 60."""

PHOTOS_PER_TASK = 250

READS_IN_FLIGHT = 16
BYTES_IN_FLIGHT = 64 * 2**20

PROGRAM = ("-m", thumbnail_child.__name__)


class Wanted(NamedTuple):
    """A photo to read, for its thumbnail, its digest or both; ``size`` in bytes as it was listed."""

    path: str
    size: int
    with_thumbnail: bool
    with_digest: bool


class Read(NamedTuple):
    """The thumbnail of a photo as WebP, and the SHA-256 of its file; None if not requested or not possible."""

    thumbnail: bytes | None
    digest: str | None


NOTHING = Read(None, None)


def find_sizes(listing: str, paths: Iterable[str]) -> dict[str, int]:
    """Return the listed sizes of some photos; a row group of the listing is in memory at a time."""
    wanted = pa.array(sorted(set(paths)), pa.string())
    sizes: dict[str, int] = {}
    with storage.open_file(listing) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(columns=["path", "size"], use_threads=False):
            found = batch.filter(pc.is_in(batch.column("path"), value_set=wanted))
            sizes.update(zip(found.column("path").to_pylist(), found.column("size").to_pylist(), strict=True))
    return sizes


def read(sc: SparkContext, photos: Sequence[Wanted], arguments: Mapping[str, Any]) -> dict[str, Read]:
    """Read photos in the workers.

    Parameters
    ----------
    sc : SparkContext
    photos : sequence of Wanted
    arguments : mapping
        The arguments of featurize, whose limits apply here too.
    """
    limits = decoder.Limits(
        max_pixels=arguments["max_pixels"],
        apply_orientation=arguments["exif_orientation"] == APPLY_ORIENTATION,
        memory_bytes=arguments["decode_memory_mb"] * 2**20,
        seconds=arguments["decode_seconds"],
    )
    max_file_bytes = min(arguments["max_file_bytes"], BYTES_IN_FLIGHT)
    shares = [list(photos[start : start + PHOTOS_PER_TASK]) for start in range(0, len(photos), PHOTOS_PER_TASK)]

    def work(share: list[Wanted]) -> list[Read]:
        return _read_share(share, limits, max_file_bytes)

    results = workers.run(sc, shares, work)
    return {
        photo.path: found
        for share, part in zip(shares, results, strict=True)
        for photo, found in zip(share, part, strict=True)
    }


def _read_share(share: Sequence[Wanted], limits: decoder.Limits, max_file_bytes: int) -> list[Read]:
    files = [(photo.path.partition("://")[2], photo.size) for photo in share]
    contents = reading.read_ahead(
        files,
        reading.reader(share[0].path),
        max_reads=READS_IN_FLIGHT,
        max_bytes=BYTES_IN_FLIGHT,
        max_file_bytes=max_file_bytes,
    )
    child = decoder.Decoder(limits, PROGRAM)
    try:
        return [_read_one(photo, content, child) for photo, content in zip(share, contents, strict=True)]
    finally:
        child.close()


def _read_one(photo: Wanted, content: reading.Data | Reject, child: decoder.Decoder) -> Read:
    if isinstance(content, Reject):
        return NOTHING
    pixels = child.decode(content) if photo.with_thumbnail else None
    thumbnail = None if pixels is None or isinstance(pixels, Reject) else encode(pixels)
    return Read(thumbnail, hashlib.sha256(content).hexdigest() if photo.with_digest else None)


def encode(pixels: Pixels) -> bytes | None:
    """Return a thumbnail as WebP of at most ``MAX_BYTES``; None if the picture does not fit, which only noise does not.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (224, 224, 3)
    """
    picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    for quality in QUALITIES:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", quality=quality, method=2)
        if stream.tell() <= MAX_BYTES:
            return stream.getvalue()
    return None
