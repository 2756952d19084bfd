"""The image formats that are read, and how a file's content shows its format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

# Each plugin is imported by name: otherwise Pillow imports all its plugins when the first few do not recognize a file.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from pillow_heif import HeifImageFile, register_heif_opener

register_heif_opener()

PLUGINS: Final[dict[str, type[ImageFile.ImageFile]]] = {
    str(plugin.format): plugin
    for plugin in (
        JpegImagePlugin.JpegImageFile,  # first, since nearly every photo is a JPEG
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        AvifImagePlugin.AvifImageFile,
        HeifImageFile,
        GifImagePlugin.GifImageFile,
        BmpImagePlugin.BmpImageFile,
        TiffImagePlugin.TiffImageFile,
    )
}
"""Pillow's name of each format that is read, and its plugin. EPS, whose plugin starts a program, is not read."""

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)

_AVIF_BRANDS: Final = (b"avif", b"avis")
_HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
"""Brands of the ``ftyp`` box (ISO/IEC 23008-12, annex B; AV1 Image File Format, section 6)."""


def recognize(data: bytes) -> str | None:
    """Return Pillow's name of the format whose signature a file begins with, None if it is none that is read."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return _recognize_iso_media(data) if data[4:8] == b"ftyp" else None


def _recognize_iso_media(data: bytes) -> str | None:
    box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    brands = [box[:4], *(box[start : start + 4] for start in range(8, len(box), 4))]  # major, version, compatible
    if any(brand in _AVIF_BRANDS for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in _HEIF_BRANDS for brand in brands) else None


def ends_early(data: bytes, name: str) -> bool:
    """Return whether a file of this format has fewer bytes than its own structure declares.

    A TIFF has no structure that tells this without reading all its directories: False.
    """
    if name == "PNG":
        return _lacks_bytes(data, start=8, size_of=lambda at: _png_chunk_size(data, at))
    if name in ("AVIF", "HEIF"):
        return _lacks_bytes(data, start=0, size_of=lambda at: int.from_bytes(data[at : at + 4], "big"))
    if name == "JPEG":
        return _jpeg_lacks_end(data)
    if name == "GIF":
        return b";" not in data
    if name == "BMP":
        return len(data) < 14 or len(data) < int.from_bytes(data[10:14], "little")
    return name == "WEBP" and len(data) < 8 + int.from_bytes(data[4:8], "little")


def _lacks_bytes(data: bytes, start: int, size_of: Callable[[int], int]) -> bool:
    """Return whether the last of the blocks that follow each other from ``start`` is incomplete."""
    while start < len(data):
        size = size_of(start)
        if size < 8:  # damaged; or a box that extends to the end (0), or whose size has 64 bits (1)
            return False
        start += size
    return start > len(data)


def _png_chunk_size(data: bytes, at: int) -> int:
    """Return the bytes of a chunk with its length, type and checksum; 0 if its type is not of letters."""
    return 12 + int.from_bytes(data[at : at + 4], "big") if data[at + 4 : at + 8].isalpha() else 0


def _jpeg_lacks_end(data: bytes) -> bool:
    """Return whether a JPEG has no end marker after its scan; the end of a thumbnail in its metadata is not one."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) < 0
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD9:  # markers without a segment
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True
