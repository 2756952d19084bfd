"""Conversion of loaded images to RGB, as an 8-bit image of the same picture would be converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from PIL import Image, TiffImagePlugin

if TYPE_CHECKING:
    import numpy.typing as npt

_GRAY_16_BIT: Final = ("I;16", "I;16B", "I;16L", "I;16N")
_GRAY_WIDE: Final = ("I", "F")
_ALPHA: Final = ("RGBA", "LA", "PA", "La", "RGBa")

_STRIP_PIXELS: Final = 2**20

_BITS_PER_SAMPLE: Final = 258
_PHOTOMETRIC: Final = 262
_SAMPLE_FORMAT: Final = 339
"""Numbers of TIFF tags (TIFF 6.0)."""

_WHITE_IS_ZERO: Final = 0
_UNSIGNED: Final = 1
_SIGNED: Final = 2
"""Values of TIFF's photometric interpretation and sample format."""

_PNG_DEPTH_AT: Final = 24
"""Offset of the bit depth in a PNG: it is in the first chunk (PNG specification, section 11.2.2)."""


def sample_bits(image: Image.Image, data: bytes) -> int:
    """Return the bits of a sample in the file; 8 for formats that have no other depth or whose plugin scales.

    Parameters
    ----------
    image : Image
        The opened image.
    data : bytes
        The content of its file.
    """
    if image.format == "PNG":
        return data[_PNG_DEPTH_AT]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0])
    return 8


def to_rgb(image: Image.Image, bits: int = 8) -> Image.Image:
    """Return a loaded image as RGB.

    - Grey, bilevel, palette, CMYK, YCbCr and Lab images: by Pillow's own conversion.
    - Transparency is composited on white.
    - Grey of more than eight bits is scaled by 255 / (2^bits - 1), rounded. Of 16-bit colours, Pillow takes the upper
      eight bits.
    - Signed, 32-bit and floating-point grey, whose range no header declares, is scaled linearly from its own minimum
      and maximum to 0…255; it is black if they are equal.

    Large images are converted in strips, so that little more memory is used than for the image and the result.

    Parameters
    ----------
    image : Image
        Any mode that the plugins of :mod:`spark_jobs.images.formats` produce.
    bits : int
        Bits of a sample in the file, as :func:`sample_bits` returns them.

    Returns
    -------
    Image
        Mode RGB, of the same size.

    Raises
    ------
    ValueError
        If floating-point pixels are NaN or infinite.
    """
    if image.mode in _GRAY_WIDE or _tiff_tag(image, _SAMPLE_FORMAT) == _SIGNED:
        return _wide_gray_to_rgb(image)
    if image.mode in _GRAY_16_BIT:
        return _deep_gray_to_rgb(image, bits)
    transparent = image.info.get("transparency")
    if transparent is not None and image.mode in ("1", "L", "RGB"):
        return _in_strips(image, _whiten(_transparent_color(transparent, bits)))
    if image.mode in _ALPHA or transparent is not None:
        return _in_strips(image, _composite)
    return image if image.mode == "RGB" else image.convert("RGB")


def _tiff_tag(image: Image.Image, number: int) -> int | None:
    """Return the first value of a tag of a TIFF, None if it or the tag is missing."""
    value = image.tag_v2.get(number) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    return value[0] if isinstance(value, tuple) else value


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield strips of rows from top to bottom, each with the number of its first row."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Return an RGB image that consists of the converted strips of another image."""
    result = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        result.paste(convert(strip), (0, top))
    return result


def _composite(image: Image.Image) -> Image.Image:
    """Composite an image with transparency on white."""
    # Pillow has no direct conversion of La, premultiplied grey, to RGBA.
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def _transparent_color(value: int | tuple[int, ...], bits: int) -> tuple[int, ...]:
    """Return a PNG's transparent colour as the loaded pixels show it: red, green and blue, 0 to 255.

    Pillow gives the colour in the depth of the file, but the pixels in eight bits.
    """
    channels = value if isinstance(value, tuple) else (value,) * 3
    if bits == 16:
        return tuple(channel >> 8 for channel in channels)
    largest = 2**bits - 1
    return tuple((channel & largest) * 255 // largest for channel in channels)


def _whiten(color: tuple[int, ...]) -> Callable[[Image.Image], Image.Image]:
    """Return a conversion to RGB that makes the pixels of one colour white."""
    import numpy as np

    def convert(strip: Image.Image) -> Image.Image:
        pixels = np.array(strip.convert("RGB"))
        pixels[(pixels == np.array(color, np.uint8)).all(axis=-1)] = 255
        return Image.fromarray(pixels)

    return convert


def _deep_gray_to_rgb(image: Image.Image, bits: int) -> Image.Image:
    """Scale grey of 9 to 16 bits to 0…255, by a table."""
    import numpy as np

    largest = 2**bits - 1
    values = np.minimum(np.arange(65536), largest)
    if _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow inverts only samples of up to eight bits
        values = largest - values
    table = np.rint(values * (255.0 / largest)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if transparent is not None:
        table[transparent] = 255
    return _in_strips(image, lambda strip: Image.fromarray(table[np.asarray(strip)]).convert("RGB"))


def _wide_gray_to_rgb(image: Image.Image) -> Image.Image:
    """Scale grey linearly so that its minimum becomes 0 and its maximum 255."""
    import numpy as np

    read = _reader_of_wide_gray(image)
    ranges = []
    for _, strip in _strips(image):
        values = read(strip)
        if not np.isfinite(values).all():
            raise ValueError("pixels are NaN or infinite")
        ranges.append((float(values.min()), float(values.max())))
    low, high = min(each[0] for each in ranges), max(each[1] for each in ranges)
    if _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        low, high = high, low

    def convert(strip: Image.Image) -> Image.Image:
        if low == high:
            return Image.new("RGB", strip.size)
        scaled = np.rint((read(strip).astype(np.float64) - low) / (high - low) * 255.0)
        return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")

    return _in_strips(image, convert)


def _reader_of_wide_gray(image: Image.Image) -> Callable[[Image.Image], npt.NDArray[Any]]:
    """Return the function from a strip to its values.

    Pillow has no mode for signed 8-bit and unsigned 32-bit grey: it gives the same bytes with the other sign.
    """
    import numpy as np

    if image.mode == "L":
        return lambda strip: np.asarray(strip).view(np.int8)
    if image.format == "TIFF" and image.mode == "I" and _tiff_tag(image, _SAMPLE_FORMAT) in (None, _UNSIGNED):
        return lambda strip: np.asarray(strip).view(np.uint32)
    return np.asarray
