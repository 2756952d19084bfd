"""Decoding of images: bytes in, pixels or a reject out. Pure: no file, no network, no state."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Final, TypeAlias

# Each plugin that may read is imported by name: Pillow else imports all it has when the first few do not know a file.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from spark_jobs.images.rejects import Reject

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SIDE: Final = 224
"""Width and height in pixels of what the model takes (Keras' default for MobileNetV2)."""

FORMATS: Final = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,  # first, since nearly every photo is one
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
    )
)
"""Formats that are read, known by a file's content and never by its name. EPS and others start programs: not here."""

Pixels: TypeAlias = "npt.NDArray[np.uint8]"

_GRAY_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_GRAY_WIDE = ("I", "F")
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_TRUNCATED = ("truncated", "unexpected end", "end of file", "eof")
_OUT_OF_MEMORY = "out of memory"
_ROWS_AT_ONCE = 64


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
    is bicubic, and no EXIF rotation. Other kinds are made RGB before they are resized, since Pillow resamples palettes
    and bilevel images by the nearest neighbour:

    - grey, bilevel, palette, CMYK, YCbCr and Lab images by Pillow's own conversion;
    - transparency is composited on white;
    - 16-bit grey is scaled by 255/65535, 16-bit colour by Pillow, which takes the upper eight bits; 32-bit and
      floating-point grey, whose range no header tells, linearly from its own minimum and maximum (black when they are
      equal). None is ever clipped;
    - of an animation, the first frame.

    Pillow may warn of dubious metadata and large images; that is left to the caller.

    Parameters
    ----------
    data : bytes
        The file's content.
    max_pixels : int
        A header that declares more pixels (width x height) makes a reject, before any is decoded.
    apply_orientation : bool
        Turn and mirror the picture as its EXIF orientation (tag 0x0112) says. Off, as in the notebook; a TIFF's own
        orientation is always applied, by Pillow.

    Returns
    -------
    Image of 224 x 224, mode RGB, or Reject
        Bad bytes never raise.

    Raises
    ------
    MemoryError
        When this process may not have as much memory as the image takes.
    """
    if not data:
        return Reject("empty_file", "0 bytes")
    try:
        return _decode(data, max_pixels, apply_orientation)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return Reject("not_an_image", f"{len(data)} bytes that begin with {data[:16]!r}")
    except Image.DecompressionBombError as error:
        return Reject("too_many_pixels", str(error))
    except Exception as error:  # on hostile bytes Pillow's plugins raise nearly every kind there is
        if _OUT_OF_MEMORY in str(error):  # what Pillow makes of its own codecs' failed allocations
            raise MemoryError(str(error)) from error
        return _reject(error)


def _decode(data: bytes, max_pixels: int, apply_orientation: bool) -> Image.Image | Reject:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            return Reject("too_many_pixels", f"{width} x {height} pixels, more than {max_pixels}")
        image.load()
        upright = turn_upright(image) if apply_orientation else image
        return to_rgb(upright).resize((SIDE, SIDE))


def turn_upright(image: Image.Image) -> Image.Image:
    """Return a loaded image turned as its EXIF orientation says; unchanged when it has none that can be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata, of which there are as many kinds as of damage, must not lose a good picture
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image as RGB, by the rules of :func:`decode_picture`."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _GRAY_16_BIT:
        return _from_gray_16_bit(image)
    if image.mode in _GRAY_WIDE:
        return _from_gray_wide(image)
    if image.mode in _ALPHA or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(_to_rgba(image))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _to_rgba(image: Image.Image) -> Image.Image:
    """Return an image with transparency as RGBA; Pillow has no direct way from La, premultiplied grey."""
    if image.mode == "RGBA":
        return image
    return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")


def _from_gray_16_bit(image: Image.Image) -> Image.Image:
    """Scale 0…65535 to 0…255, rounded: by a table, so that a large image takes one byte a pixel more and no floats."""
    import numpy as np

    table = np.rint(np.arange(65536) / 257.0).astype(np.uint8)
    return Image.fromarray(table[np.asarray(image)]).convert("RGB")


def _from_gray_wide(image: Image.Image) -> Image.Image:
    """Scale linearly so that the least value becomes 0 and the greatest 255, some rows at a time to spare memory."""
    import numpy as np

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("pixels are NaN or infinite")
    low, high = float(values.min()), float(values.max())
    scaled = np.zeros(values.shape, np.uint8)
    if low < high:
        for first in range(0, len(values), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            scaled[rows] = np.rint((values[rows].astype(np.float64) - low) / (high - low) * 255.0)
    return Image.fromarray(scaled).convert("RGB")


def _reject(error: Exception) -> Reject:
    detail = f"{type(error).__name__}: {error}"
    ends_early = isinstance(error, EOFError) or any(word in str(error).lower() for word in _TRUNCATED)
    return Reject("truncated" if ends_early else "corrupt", detail)
