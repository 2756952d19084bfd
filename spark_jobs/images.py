"""Decoding of images: bytes in, pixels or a reject out. Pure: no file, no network, no state."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

# Each plugin that may read is imported by name: Pillow else imports all it has when the first few do not know a file.
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

SIDE: Final = 224
"""Width and height in pixels of what the model takes (Keras' default for MobileNetV2)."""

FORMATS: Final = tuple(
    plugin.format
    for plugin in (
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)
"""Formats that are read, known by a file's content and never by its name. EPS and others start programs: not here."""

REASONS: Final = {
    "corrupt": "begins as an image, but its content breaks the format's rules",
    "empty_file": "has no bytes",
    "file_too_large": "has more bytes than --max-file-bytes; it is not read",
    "non_finite_features": "decodes, but the model's output for it has NaN or infinite values",
    "not_an_image": f"is in none of the formats {', '.join(FORMATS)}",
    "too_many_pixels": "has more pixels than --max-pixels (or than Pillow's own limit); it is not decoded",
    "truncated": "ends before the image does",
    "unreadable": "is not a regular file, or reading it was refused or failed",
    "vanished": "was listed, but is no longer there",
}
"""Every reason of a reject, and what it says of the file."""

Pixels = npt.NDArray[np.uint8]

_GRAY_16_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_GRAY_WIDE = ("I", "F")
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_TRUNCATED = ("truncated", "unexpected end", "end of file", "eof")


@dataclass(frozen=True)
class Reject:
    """Why a file has no features.

    Attributes
    ----------
    reason : str
        A key of :data:`REASONS`.
    detail : str
        For a person: what was found.
    """

    reason: str
    detail: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is not one of the reasons {sorted(REASONS)}")


def decode(data: bytes, *, max_pixels: int) -> Pixels | Reject:
    """Decode an image and resize it to what the model takes.

    For an RGB JPEG the pixels are those of ``Image.open(file).resize([224, 224])``: Pillow's default resampling, which
    is bicubic, and no EXIF rotation. Other kinds are made RGB before they are resized, since Pillow resamples palettes
    and bilevel images by the nearest neighbour:

    - grey, bilevel, palette, CMYK, YCbCr and Lab images by Pillow's own conversion;
    - transparency is composited on white;
    - 16-bit grey is scaled by 255/65535; 32-bit and floating-point grey, whose range no header tells, linearly from its
      own minimum and maximum (black when they are equal). Neither is ever clipped;
    - of an animation, the first frame.

    Parameters
    ----------
    data : bytes
        The file's content.
    max_pixels : int
        A header that declares more pixels (width x height) makes a reject, before any is decoded.

    Returns
    -------
    numpy.ndarray of shape (224, 224, 3), uint8, or Reject
        Red, green and blue, 0 to 255; or why there are none. Bad bytes never raise.
    """
    if not data:
        return Reject("empty_file", "0 bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of dubious metadata and large images: what matters becomes a reject
        try:
            return _decode(data, max_pixels)
        except UnidentifiedImageError:
            return Reject("not_an_image", f"{len(data)} bytes that begin with {data[:16]!r}")
        except Image.DecompressionBombError as error:
            return Reject("too_many_pixels", str(error))
        except Exception as error:  # on hostile bytes Pillow's plugins raise nearly every kind there is
            return _reject(error)


def _decode(data: bytes, max_pixels: int) -> Pixels | Reject:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            return Reject("too_many_pixels", f"{width} x {height} pixels, more than {max_pixels}")
        image.load()
        resized = to_rgb(image).resize((SIDE, SIDE))
    return np.asarray(resized)


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image as RGB, by the rules of :func:`decode`."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _GRAY_16_BIT:
        return _from_gray(np.asarray(image).astype(np.float64) / 257.0)
    if image.mode in _GRAY_WIDE:
        return _from_gray(_stretch(np.asarray(image).astype(np.float64)))
    if image.mode in _ALPHA or "transparency" in image.info:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(_to_rgba(image))
        return opaque.convert("RGB")
    return image.convert("RGB")


def _to_rgba(image: Image.Image) -> Image.Image:
    """Return an image with transparency as RGBA; Pillow has no direct way from La, premultiplied grey."""
    return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")


def _stretch(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scale values linearly so that the least becomes 0 and the greatest 255."""
    if not np.isfinite(values).all():
        raise ValueError("pixels are NaN or infinite")
    low, high = values.min(), values.max()
    return np.zeros_like(values) if low == high else (values - low) / (high - low) * 255.0


def _from_gray(values: npt.NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _reject(error: Exception) -> Reject:
    detail = f"{type(error).__name__}: {error}"
    ends_early = isinstance(error, EOFError) or any(word in str(error).lower() for word in _TRUNCATED)
    return Reject("truncated" if ends_early else "corrupt", detail)
