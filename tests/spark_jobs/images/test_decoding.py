"""Decoding: the notebook's pixels for a plain JPEG, a documented rule for every other kind, a reason for the rest."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from spark_jobs.images import decoding
from spark_jobs.images.decoding import Pixels
from spark_jobs.images.rejects import REASONS, Reject

NAMED = Path(__file__).resolve().parents[2] / "data" / "images"
MAX_PIXELS = 64_000_000


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    pixels = decoding.decode(data, max_pixels=max_pixels)
    assert not isinstance(pixels, Reject), pixels
    assert pixels.shape == (224, 224, 3)
    assert pixels.dtype == np.uint8
    return pixels


def reason(data: bytes, max_pixels: int = MAX_PIXELS) -> str:
    reject = decoding.decode(data, max_pixels=max_pixels)
    assert isinstance(reject, Reject)
    return reject.reason


def named(name: str) -> bytes:
    return (NAMED / name).read_bytes()


def encode(pixels: np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def test_the_named_files_are_there() -> None:
    assert len(list(NAMED.glob("good_*"))) == 19
    assert len(list(NAMED.glob("bad_*"))) == 12


@pytest.mark.parametrize("path", sorted(NAMED.glob("good_*")), ids=lambda path: path.stem)
def test_good_files_decode(path: Path) -> None:
    decode(path.read_bytes())


@pytest.mark.parametrize("path", sorted(NAMED.glob("bad_*")), ids=lambda path: path.stem)
def test_bad_files_are_rejects_with_the_reason_in_their_name(path: Path) -> None:
    found = reason(path.read_bytes())
    assert path.name.startswith(f"bad_{found}")


@pytest.mark.parametrize("name", ["good_rgb.jpg", "good_progressive.jpg", "good_exif_rotated.jpg", "good_1x1.jpg"])
def test_an_rgb_jpeg_has_the_notebooks_pixels(name: str) -> None:
    notebook = Image.open(NAMED / name).resize([224, 224])
    np.testing.assert_array_equal(decode(named(name)), np.asarray(notebook))


def test_every_photo_has_the_notebooks_pixels(photos: Path) -> None:
    for path in sorted(photos.glob("*/*.jpg"))[::7]:
        notebook = Image.open(path).resize([224, 224])
        np.testing.assert_array_equal(decode(path.read_bytes()), np.asarray(notebook), err_msg=str(path))


def test_a_png_named_jpg_is_known_by_its_content() -> None:
    expected = Image.open(io.BytesIO(named("good_png_rgb_named.jpg"))).resize((224, 224))
    np.testing.assert_array_equal(decode(named("good_png_rgb_named.jpg")), np.asarray(expected))


def test_grey_gives_three_equal_channels() -> None:
    pixels = decode(named("good_grayscale.jpg"))
    assert pixels.std() > 10
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 1])
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("good_cmyk.jpg", 6),
        ("good_webp_named.jpg", 6),
        ("good_bmp_named.jpg", 0),
        ("good_png_palette_named.jpg", 12),
        ("good_gif_animated_named.jpg", 12),
    ],
)
def test_the_same_picture_in_another_coding_looks_the_same(name: str, tolerance: int) -> None:
    plain = decode(named("good_png_rgb_named.jpg")).astype(int)
    assert np.abs(decode(named(name)) - plain).mean() <= tolerance


def test_a_palette_is_made_rgb_before_it_is_resized() -> None:
    whole = Image.open(io.BytesIO(named("good_png_palette_named.jpg"))).convert("RGB")
    np.testing.assert_array_equal(decode(named("good_png_palette_named.jpg")), np.asarray(whole.resize((224, 224))))


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 100), (128, 177)])
def test_transparency_is_composited_on_white(alpha: int, expected: int) -> None:
    pixels = np.full((9, 9, 4), 100, np.uint8)
    pixels[..., 3] = alpha
    assert np.abs(decode(encode(pixels)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["P", "L", "RGB"])
def test_a_transparent_colour_is_white(kind: str) -> None:
    image = Image.new(kind, (9, 9), 5 if kind != "RGB" else (5, 5, 5))
    if kind == "P":
        image.putpalette([30, 60, 90] * 256)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=5 if kind != "RGB" else (5, 5, 5))
    assert (decode(buffer.getvalue()) == 255).all()


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.tile(np.array([[0, 257 * 10, 257 * 100, 65535]], np.uint16), (4, 1)).repeat(56, 0).repeat(56, 1)
    pixels = decode(encode(values))
    np.testing.assert_array_equal(pixels[100, 28::56, 0], [0, 10, 100, 255])


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_wide_grey_is_scaled_from_its_own_range(kind: type) -> None:
    values = np.tile(np.array([[-1000, 0, 1000, 3000]], kind), (4, 1)).repeat(56, 0).repeat(56, 1)
    np.testing.assert_array_equal(decode(encode(values, "TIFF"))[100, 28::56, 0], [0, 64, 128, 255])


def test_constant_wide_grey_is_black() -> None:
    assert (decode(encode(np.full((5, 5), 0.5, np.float32), "TIFF")) == 0).all()


def test_nan_pixels_are_a_reject() -> None:
    assert reason(encode(np.full((5, 5), np.nan, np.float32), "TIFF")) == "corrupt"


def test_16_bit_colour_is_its_upper_eight_bits() -> None:
    """Pillow writes none: a PNG made by hand (ISO 15948: an IHDR of 16 bits, colour type 2, one filtered row)."""
    samples = (0x00FF, 0x0A00, 0xFFFF)
    row = b"\0" + b"".join(value.to_bytes(2, "big") for value in samples)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(row)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    assert decode(data)[0, 0].tolist() == [0x00, 0x0A, 0xFF]


UPRIGHT = np.zeros((8, 8, 3), np.uint8)
UPRIGHT[:4, :4], UPRIGHT[:4, 4:], UPRIGHT[4:, :4] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
STORED = {  # how a camera stores the upright picture, by EXIF 2.32's words for where row 0 and column 0 are
    1: UPRIGHT,  # top, left
    2: UPRIGHT[:, ::-1],  # top, right
    3: UPRIGHT[::-1, ::-1],  # bottom, right
    4: UPRIGHT[::-1],  # bottom, left
    5: UPRIGHT.transpose(1, 0, 2),  # left, top
    6: UPRIGHT[:, ::-1].transpose(1, 0, 2),  # right, top
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: UPRIGHT[::-1].transpose(1, 0, 2),  # left, bottom
}


def with_orientation(pixels: np.ndarray, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(np.ascontiguousarray(pixels), exif=exif)


def corners(data: bytes, apply_orientation: bool) -> list[list[int]]:
    pixels = decoding.decode(data, max_pixels=100, apply_orientation=apply_orientation)
    assert not isinstance(pixels, Reject)
    return [pixels[row, column].tolist() for row in (20, 200) for column in (20, 200)]


@pytest.mark.parametrize("orientation", STORED)
def test_orientation_is_applied_when_it_is_asked_for_only(orientation: int) -> None:
    data = with_orientation(STORED[orientation], orientation)
    assert corners(data, apply_orientation=True) == corners(encode(UPRIGHT), apply_orientation=False)
    as_stored = encode(np.ascontiguousarray(STORED[orientation]))
    assert corners(data, apply_orientation=False) == corners(as_stored, apply_orientation=False)


def test_damaged_exif_loses_no_picture() -> None:
    data = encode(UPRIGHT, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(40))
    assert corners(data, apply_orientation=True) == corners(data, apply_orientation=False)


def test_memory_that_is_refused_is_no_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes decides what that means: a decode child ends, and its worker blames the file."""

    def refuse(*_: object) -> None:
        raise OSError("out of memory error when reading image file")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", refuse)
    with pytest.raises(MemoryError):
        decoding.decode(named("good_png_rgb_named.jpg"), max_pixels=MAX_PIXELS)


def test_the_limit_of_pixels_is_exact() -> None:
    data = encode(np.zeros((10, 20, 3), np.uint8))
    decode(data, max_pixels=200)
    assert reason(data, max_pixels=199) == "too_many_pixels"


def test_too_many_pixels_are_known_from_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    assert reason(named("good_rgb.jpg"), max_pixels=100) == "too_many_pixels"


def test_no_warning_leaks() -> None:
    data = encode(np.zeros((9500, 9500), np.uint8))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(data, max_pixels=100_000_000)
    assert caught == []


def test_a_cut_jpeg_is_truncated_wherever_it_is_cut() -> None:
    whole = named("good_rgb.jpg")
    found = {reason(whole[:length]) for length in range(640, len(whole) - 20, 7)}
    assert found == {"truncated"}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_are_pixels_or_a_reject_and_never_an_exception(data: st.DataObject) -> None:
    content = bytearray(named(data.draw(st.sampled_from(sorted(path.name for path in NAMED.glob("good_*"))))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    outcome = decoding.decode(bytes(content), max_pixels=1_000_000)
    assert isinstance(outcome, Reject) or outcome.shape == (224, 224, 3)


@given(st.binary(max_size=300))
def test_any_bytes_are_pixels_or_a_reject(content: bytes) -> None:
    outcome = decoding.decode(content, max_pixels=1_000_000)
    assert isinstance(outcome, Reject)


def test_a_reason_outside_the_set_is_refused() -> None:
    with pytest.raises(ValueError, match="'bad' is not one of the reasons"):
        Reject("bad", "")
    assert all(text for text in REASONS.values())


def test_the_document_has_every_reason_and_what_it_says() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "images.md").read_text(encoding="utf-8")
    text = text.partition("## Reasons of rejects")[2].partition("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `") and "--" not in line.split("|")[1]]
    assert rows == [f"| `{reason}` | {says} |" for reason, says in REASONS.items()]
