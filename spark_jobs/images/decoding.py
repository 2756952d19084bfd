"""Decoding of images: bytes in, pixels or a reject out. Pure: no file, no network, no state."""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from spark_jobs.images.formats import PLUGINS, ends_early, recognize
from spark_jobs.images.png import essential_chunks
from spark_jobs.images.rejects import Reject
from spark_jobs.images.rgb import sample_bits, to_rgb

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SIDE: Final = 224
"""Width and height in pixels of the model's input (Keras's default for MobileNetV2)."""

Pixels: TypeAlias = "npt.NDArray[np.uint8]"

_TRUNCATED: Final = ("truncated", "unexpected end", "end of file", "eof")
_UNSUPPORTED: Final = (
    "unsupported",
    "not supported",
    "not yet supported",
    "cannot handle",
    "unknown pixel mode",
    "unknown data organization",
)
"""Parts of the messages with which Pillow's plugins refuse a variant of their format."""

_ORIENTATION: Final = 0x0112
_ROTATIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The EXIF tag of the orientation, and what its values mean (as ``PIL.ImageOps.exif_transpose``)."""

_OUT_OF_MEMORY: Final = "out of memory"

_TIFF_COMPRESSION: Final = 259
"""Number of a TIFF tag (TIFF 6.0)."""

_TIFF_COMPRESSIONS: Final = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946, 34925, 50000})
"""Compressions that are read: none, CCITT (three), LZW, JPEG, Deflate (two), PackBits, LZMA and Zstandard."""


def decode(data: bytes, *, max_pixels: int, apply_orientation: bool = False) -> Pixels | Reject:
    """Decode an image and resize it to what the model takes.

    As :func:`decode_picture`, but the result is an array.

    Returns
    -------
    numpy.ndarray of shape (224, 224, 3), uint8, or Reject
        Red, green and blue, 0 to 255; or why there are none. Bad bytes never raise.
    """
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dubious metadata and large images: what matters becomes a reject
        picture = decode_picture(data, max_pixels=max_pixels, apply_orientation=apply_orientation)
    return picture if isinstance(picture, Reject) else np.asarray(picture)


def decode_picture(data: bytes, *, max_pixels: int, apply_orientation: bool = False) -> Image.Image | Reject:
    """Decode an image and resize it to what the model takes.

    For an RGB JPEG the pixels are those of ``Image.open(file).resize([224, 224])``: Pillow's default resampling, which
    is bicubic, and no EXIF rotation. Other images are converted with :func:`spark_jobs.images.rgb.to_rgb` before they
    are resized, since Pillow resamples palettes and bilevel images by the nearest neighbour. Of an animation, the
    first frame is taken.

    Pillow may warn about dubious metadata and large images; the caller handles the warnings.

    Parameters
    ----------
    data : bytes
        The file's content.
    max_pixels : int
        An image whose header declares more pixels (width x height) is a reject; none of it is decoded.
    apply_orientation : bool
        Whether the EXIF orientation (tag 0x0112) is applied. Off by default, as in the notebook. The plugins of TIFF,
        HEIC and AVIF always apply the orientation that these formats themselves store.

    Returns
    -------
    Image of 224 x 224, mode RGB, or Reject
        Bad bytes never raise.

    Raises
    ------
    MemoryError
        If the image needs more memory than this process may use.
    """
    if not data:
        return Reject("empty_file", "0 bytes")
    try:
        return _decode_repaired(data, max_pixels, apply_orientation)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        return Reject("too_many_pixels", str(error))
    except Exception as error:  # with hostile bytes, Pillow's plugins raise nearly every kind of exception
        if _OUT_OF_MEMORY in str(error):  # the message of Pillow's codecs when an allocation fails
            raise MemoryError(str(error)) from error
        return _explain(data, error)


def _decode_repaired(data: bytes, max_pixels: int, apply_orientation: bool) -> Image.Image | Reject:
    """Decode an image; if the metadata of a PNG prevents it, decode the PNG without them."""
    try:
        return _decode(data, max_pixels, apply_orientation)
    except (MemoryError, Image.DecompressionBombError):
        raise
    except Exception:
        essential = essential_chunks(data) if recognize(data) == "PNG" else data
        if len(essential) == len(data):
            raise
        with suppress(Exception):
            return _decode(essential, max_pixels, apply_orientation)
        raise


def _decode(data: bytes, max_pixels: int, apply_orientation: bool) -> Image.Image | Reject:
    with Image.open(io.BytesIO(data), formats=tuple(PLUGINS)) as image:
        width, height = image.size
        if width * height > max_pixels:
            return Reject("too_many_pixels", f"{width} x {height} pixels, more than {max_pixels}")
        image.load()
        turn = _exif_rotation(image) if apply_orientation else None
        image.fp = None  # the plugins of WebP and AVIF keep a copy of the pixels there
        rgb = to_rgb(image, sample_bits(image, data))
        if rgb is not image:
            image.close()  # frees its pixels
        return (rgb if turn is None else rgb.transpose(turn)).resize((SIDE, SIDE))


def _exif_rotation(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition for the EXIF orientation of an image, None if the image is upright."""
    try:
        return _ROTATIONS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata, of which there are many kinds, must not lose a good picture
        return None


def _explain(data: bytes, error: Exception) -> Reject:
    """Return the reject for an exception that a plugin has raised."""
    name = recognize(data)
    if name is None and isinstance(error, UnidentifiedImageError):
        return Reject("not_an_image", f"{len(data)} bytes that begin with {data[:16]!r}")
    if name is not None and isinstance(error, UnidentifiedImageError):
        error = _refusal(data, name) or error
    detail = f"{name or 'unknown format'}: {type(error).__name__}: {error}"
    message = str(error).lower()
    if any(word in message for word in _UNSUPPORTED) or not _is_compression_read(data, name):
        return Reject("unsupported_variant", detail)
    if any(word in message for word in _TRUNCATED) or (name is not None and ends_early(data, name)):
        return Reject("truncated", detail)
    return Reject("corrupt", detail)


def _refusal(data: bytes, name: str) -> Exception | None:
    """Return the exception with which the plugin of a format refuses a file; ``Image.open`` does not tell it."""
    try:
        PLUGINS[name](io.BytesIO(data)).close()
    except Exception as error:
        return error
    return None


def _is_compression_read(data: bytes, name: str | None) -> bool:
    """Return whether a file is no TIFF, or its compression is read or cannot be found out."""
    if name != "TIFF":
        return True
    with suppress(Exception):
        is_big = 43 in (data[2], data[3])
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if is_big else 8])
        stream = io.BytesIO(data)
        stream.seek(directory.next)
        directory.load(stream)
        return directory.get(_TIFF_COMPRESSION, 1) in _TIFF_COMPRESSIONS
    return True
