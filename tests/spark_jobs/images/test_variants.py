"""Every sample depth, colour type and kind of transparency gives the pixels of its 8-bit twin, or a true reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spark_jobs.args import IMAGE_ENDINGS
from spark_jobs.images import decoding, formats
from spark_jobs.images.rejects import Reject
from tests.spark_jobs.images import variants
from tests.spark_jobs.images.variants import BEGIN, DOCUMENT, END, RGB, Variant, difference, quantize, saved

MAX_PIXELS = 1_000_000


@pytest.mark.parametrize("variant", variants.all_variants(), ids=lambda variant: variant.name)
def test_a_variant_shows_its_picture_or_is_unsupported(variant: Variant) -> None:
    outcome = decoding.decode(variant.data, max_pixels=MAX_PIXELS)
    if isinstance(outcome, Reject):
        assert outcome.reason == "unsupported_variant", outcome
    else:
        assert difference(variant, outcome) <= variant.tolerance


def test_the_table_of_the_document_is_generated_from_the_variants() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()
    assert lines == variants.table(), "run: python -m tests.spark_jobs.images.variants"


def test_a_format_that_is_read_is_recognized_by_its_content_and_has_endings() -> None:
    read = {formats.recognize(variant.data) for variant in variants.all_variants()}
    assert read == set(formats.PLUGINS)
    for name in formats.PLUGINS:
        endings = {ending for ending, owner in Image.registered_extensions().items() if owner == name}
        assert endings & set(IMAGE_ENDINGS), name
    assert formats.recognize(b"%PDF-1.7") is None
    assert formats.recognize(struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"mp42")) is None


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
def test_a_good_png_with_much_metadata_is_read(kind: bytes) -> None:
    noise = np.random.default_rng(1).integers(97, 123, 3_000_000, dtype=np.uint8).tobytes()
    body = {
        b"tEXt": b"Comment\0" + noise,
        b"zTXt": b"Comment\0\0" + zlib.compress(noise),
        b"iTXt": b"Comment\0\0\0\0\0" + noise,
        b"iCCP": b"profile\0\0" + zlib.compress(noise),
    }[kind]
    plain = saved(quantize(RGB, 8).astype(np.uint8), "PNG")
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    outcome = decoding.decode(plain[:33] + chunk + plain[33:], max_pixels=MAX_PIXELS)
    np.testing.assert_array_equal(outcome, decoding.decode(plain, max_pixels=MAX_PIXELS))


def test_a_png_with_much_metadata_keeps_its_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = saved(quantize(RGB, 8).astype(np.uint8)[::-1, ::-1], "PNG", exif=exif)
    body = b"profile\0\0" + zlib.compress(bytes(np.random.default_rng(1).integers(0, 256, 2_000_000, dtype=np.uint8)))
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
    outcome = decoding.decode(turned[:33] + chunk + turned[33:], max_pixels=MAX_PIXELS, apply_orientation=True)
    upright = saved(quantize(RGB, 8).astype(np.uint8), "PNG")
    np.testing.assert_array_equal(outcome, decoding.decode(upright, max_pixels=MAX_PIXELS))


def test_compressions_of_tiff_are_read() -> None:
    rgb = Image.fromarray(quantize(RGB, 8).astype(np.uint8))
    names = {None: 1, "tiff_lzw": 5, "jpeg": 7, "tiff_adobe_deflate": 8, "packbits": 32773, "tiff_deflate": 32946}
    for name in [*names, "lzma", "zstd", "group3", "group4", "tiff_ccitt"]:
        buffer = io.BytesIO()
        bilevel = name in ("group3", "group4", "tiff_ccitt")
        (rgb.convert("1") if bilevel else rgb).save(buffer, "TIFF", compression=name)
        outcome = decoding.decode(buffer.getvalue(), max_pixels=MAX_PIXELS)
        assert not isinstance(outcome, Reject), (name, outcome)


def compression_patched(number: int) -> bytes:
    """Return a TIFF whose compression tag has another number."""
    data = saved(quantize(RGB, 8).astype(np.uint8), "TIFF")
    entry = struct.pack("<HHIH", 259, 3, 1, 1)
    assert data.count(entry) == 1
    return data.replace(entry, struct.pack("<HHIH", 259, 3, 1, number))


def test_reasons_are_true(tmp_path: Path) -> None:
    rgb = quantize(RGB, 8).astype(np.uint8)
    png, gif, bmp = saved(rgb, "PNG"), saved(rgb, "GIF"), saved(rgb, "BMP")
    jpeg, webp, avif = saved(rgb, "JPEG"), saved(rgb, "WEBP"), saved(rgb, "AVIF")
    header = png.index(b"IHDR") + 4
    cases = {
        "unsupported_variant": [compression_patched(50001), compression_patched(34712), compression_patched(60000)],
        "truncated": [file[: len(file) // 2] for file in (png, bmp, jpeg, webp, avif)],
        "corrupt": [
            png[:header] + bytes(8) + png[header + 8 :],  # no width, no height
            png[:60] + b"\xff" * 40 + png[100:],
            b"MM\0*\0\0\0\x08" + b"\xff" * 60,
        ],
        "not_an_image": [b"%PDF-1.7 " * 9, b"\0" * 90, b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    }
    for expected, files in cases.items():
        for number, data in enumerate(files):
            outcome = decoding.decode(data, max_pixels=MAX_PIXELS)
            assert isinstance(outcome, Reject), (expected, number)
            assert outcome.reason == expected, (expected, number, outcome)
    assert isinstance(decoding.decode(gif, max_pixels=MAX_PIXELS), np.ndarray)
