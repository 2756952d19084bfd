"""Regenerate the named test images: ``python tests/data/make_images.py`` from the root of the repository.

Each file's name says what it is. They are small, and they are the same bytes for the same version of Pillow.
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "images"
SIZE = 48


def picture(seed: int = 3) -> Image.Image:
    """Return a small smooth colour picture."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    return coarse.resize((SIZE, SIZE))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image's bytes in a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_that_declares(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes whose header declares a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


def png_with_text_bomb() -> bytes:
    """Return a PNG with a compressed comment of 8 MB in 8 KB."""
    whole = encode(picture(), "PNG")
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 8_000_000, 9))
    return whole[:33] + bomb + whole[33:]


def files() -> dict[str, bytes]:
    """Return every file's bytes by its name."""
    rgb = picture()
    jpeg = encode(rgb, "JPEG", quality=90)
    png = encode(rgb, "PNG")
    fade = Image.fromarray(np.tile(np.linspace(0, 255, SIZE, dtype=np.uint8), (SIZE, 1)))
    transparent = rgb.copy()
    transparent.putalpha(fade)
    ramp = np.tile(np.linspace(0, 65535, SIZE), (SIZE, 1)).astype(np.uint16)
    second = picture(4)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "good_rgb.jpg": jpeg,
        "good_progressive.jpg": encode(rgb, "JPEG", quality=90, progressive=True),
        "good_exif_rotated.jpg": encode(rgb, "JPEG", quality=90, exif=exif),
        "good_grayscale.jpg": encode(rgb.convert("L"), "JPEG"),
        "good_cmyk.jpg": encode(rgb.convert("CMYK"), "JPEG"),
        "good_png_rgb_named.jpg": png,
        "good_png_alpha_named.jpg": encode(transparent, "PNG"),
        "good_png_gray_alpha_named.jpg": encode(transparent.convert("LA"), "PNG"),
        "good_png_palette_named.jpg": encode(rgb.quantize(64), "PNG"),
        "good_png_palette_transparent_named.jpg": encode(rgb.quantize(64), "PNG", transparency=0),
        "good_png_bilevel_named.jpg": encode(rgb.convert("1"), "PNG"),
        "good_png_16_bit_gray_named.jpg": encode(Image.fromarray(ramp), "PNG"),
        "good_tiff_float_gray_named.jpg": encode(Image.fromarray(ramp.astype(np.float32) / 50), "TIFF"),
        "good_tiff_int32_gray_named.jpg": encode(Image.fromarray(ramp.astype(np.int32) * 9 - 70000), "TIFF"),
        "good_gif_animated_named.jpg": encode(rgb.quantize(64), "GIF", save_all=True, append_images=[second]),
        "good_webp_named.jpg": encode(rgb, "WEBP"),
        "good_bmp_named.jpg": encode(rgb, "BMP"),
        "good_1x1.jpg": encode(rgb.crop((0, 0, 1, 1)), "JPEG"),
        "bad_empty_file.jpg": b"",
        "bad_not_an_image_text.jpg": b"this is not an image\n" * 20,
        "bad_not_an_image_eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n",
        "bad_not_an_image_zeros.jpg": bytes(1000),
        "bad_truncated_half.jpg": jpeg[: len(jpeg) // 2],
        "bad_truncated_last_bytes.jpg": jpeg[:-60],
        "bad_truncated_png_named.jpg": png[: len(png) // 2],
        "bad_truncated_webp_cut_named.jpg": encode(rgb, "WEBP")[:-200],
        "bad_corrupt_png_checksum_named.jpg": png[:60] + bytes([png[60] ^ 255]) + png[61:],
        "good_png_text_bomb_named.jpg": png_with_text_bomb(),
        "bad_too_many_pixels_png_named.jpg": png_that_declares(50_000, 50_000),
        "bad_too_many_pixels_2_gib_png_named.jpg": png_that_declares(2**31 - 1, 2**31 - 1),
        "bad_too_many_pixels_100_million_png_named.jpg": png_that_declares(10_000, 10_000),
    }


def main() -> None:
    """Write the folder anew."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
