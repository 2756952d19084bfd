"""The chunks of a PNG file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"

ESSENTIAL: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
"""Types of the chunks that the decoded picture depends on (PNG specification, section 5.6), and the orientation's."""


def essential_chunks(data: bytes) -> bytes:
    """Return a PNG without its texts, profiles, animation and other chunks that do not change the first picture.

    Pillow refuses a PNG whose texts or profiles have more than 1 MB, or whose animation is damaged, though the picture
    itself is good.

    Parameters
    ----------
    data : bytes
        Content of a file with the signature of PNG.
    """
    chunks = (data[start:end] for kind, start, end in _chunks(data) if kind in ESSENTIAL)
    return SIGNATURE + b"".join(chunks)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of each chunk; the last one may extend past the end of the data."""
    start = len(SIGNATURE)
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], start, end
        start = end
