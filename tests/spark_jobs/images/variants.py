"""One picture in every variant of the formats that are read: colour type, bits of a sample, and transparency.

PNG, TIFF and BMP files are written here by hand, after their specifications, since Pillow writes few of the variants.
``python -m tests.spark_jobs.images.variants`` writes the table of docs/images.md.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pillow_heif
from PIL import Image, ImageCms

from spark_jobs.images import decoding
from spark_jobs.images.rejects import Reject

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "images.md"
BEGIN, END = "<!-- variants: begin -->", "<!-- variants: end -->"

SIDE = 40
MAX_PIXELS = 1_000_000

Array = npt.NDArray[np.float64]
"""Shares of full intensity, 0 to 1."""


def picture() -> Array:
    """Return red, green and blue of a smooth picture that has both black and white."""
    coarse = np.random.default_rng(7).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    shares = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE))) / 255.0
    shares[:6, :6], shares[-6:, -6:] = 0.0, 1.0
    return shares


RGB = picture()
GRAY = RGB.mean(axis=-1)
GRAY[:6, :6], GRAY[-6:, -6:] = 0.0, 1.0
ALPHA = np.tile(np.linspace(0.0, 1.0, SIDE), (SIDE, 1))


@dataclass(frozen=True)
class Variant:
    """A file, and the picture that it shows.

    Attributes
    ----------
    format, color, bits, transparency : str
        As in the table.
    data : bytes
        The file.
    shown : ndarray of shape (SIDE, SIDE) or (SIDE, SIDE, 3)
        The picture as the file's samples define it, transparency composited on white.
    tolerance : float
        Largest mean difference per channel from the 8-bit file of that picture, 0 to 255.
    """

    format: str
    color: str
    bits: str
    transparency: str
    data: bytes
    shown: Array
    tolerance: float = 0.6

    @property
    def name(self) -> str:
        """Name of the test case."""
        return f"{self.format} {self.color} {self.bits} {self.transparency}"


def quantize(shares: Array, bits: int) -> npt.NDArray[np.int64]:
    """Return the samples of a depth."""
    return np.rint(shares * (2**bits - 1)).astype(np.int64)


def seen(samples: npt.NDArray[np.int64], bits: int) -> Array:
    """Return what samples of a depth show."""
    return samples / (2.0**bits - 1)


def on_white(shares: Array, alpha: Array) -> Array:
    """Composite on white."""
    weights = alpha if shares.ndim == 2 else alpha[..., None]
    return np.asarray(shares * weights + (1 - weights))


def pack(samples: npt.NDArray[np.int64], bits: int, order: str = ">") -> bytes:
    """Return rows of samples; each row begins at a byte."""
    if bits in (8, 16, 32):
        return samples.astype(f"{order}u{bits // 8}").tobytes()
    digits = (samples.reshape(len(samples), -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(digits.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def png(color_type: int, bits: int, samples: npt.NDArray[np.int64], *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG (ISO/IEC 15948)."""
    rows = pack(samples, bits)
    width = len(rows) // SIDE
    lines = b"".join(b"\0" + rows[start : start + width] for start in range(0, len(rows), width))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, color_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def tiff(rows: bytes, bits: tuple[int, ...], photometric: int, order: str = "<", **tags: tuple[int, ...]) -> bytes:
    """Write a TIFF of one uncompressed strip (TIFF 6.0); further tags are given as ``t<number>``."""
    values = {256: (SIDE,), 257: (SIDE,), 258: bits, 259: (1,), 262: (photometric,), 273: (8,), 277: (len(bits),)}
    values |= {278: (SIDE,), 279: (len(rows),)} | {int(name[1:]): value for name, value in tags.items()}
    rows += b"\0" * (len(rows) % 2)
    more, entries, after = b"", b"", 8 + len(rows) + 2 + 12 * len(values) + 4
    for number in sorted(values):
        body = struct.pack(f"{order}{len(values[number])}H", *values[number])
        if len(body) > 4:
            place, more = struct.pack(f"{order}I", after + len(more)), more + body
        else:
            place = body.ljust(4, b"\0")
        entries += struct.pack(f"{order}HHI", number, 3, len(values[number])) + place
    directory = struct.pack(f"{order}H", len(values)) + entries + struct.pack(f"{order}I", 0)
    return {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HI", 42, 8 + len(rows)) + rows + directory + more


def bmp(bits: int, rows: bytes, palette: bytes = b"", masks: tuple[int, ...] = ()) -> bytes:
    """Write a BMP, bottom row first, with a header of version 4 if there are masks of channels, else of version 3."""
    extra = struct.pack("<4I", *masks) + bytes(52) if masks else b""
    size = 40 + len(extra)
    header = struct.pack("<IiiHHIIiiII", size, SIDE, SIDE, 1, bits, 3 if masks else 0, len(rows), 0, 0, 0, 0)
    offset = 14 + size + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset) + header + extra + palette + rows


def saved(array: npt.NDArray[np.uint8], kind: str, mode: str | None = None, **options: object) -> bytes:
    """Write with Pillow."""
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def png_variants() -> Iterator[Variant]:
    """Yield every combination that the specification allows (its table 11.1)."""
    for bits in (1, 2, 4, 8, 16):
        gray = quantize(GRAY, bits)
        yield Variant("PNG", "grey", str(bits), "none", png(0, bits, gray), seen(gray, bits))
        key = int(gray[20, 20])
        shown = np.where(gray == key, 1.0, seen(gray, bits))
        yield Variant(
            "PNG", "grey", str(bits), "one colour", png(0, bits, gray, (b"tRNS", struct.pack(">H", key))), shown
        )
    for bits in (8, 16):
        rgb, gray, alpha = quantize(RGB, bits), quantize(GRAY, bits), quantize(ALPHA, bits)
        yield Variant("PNG", "RGB", str(bits), "none", png(2, bits, rgb), seen(rgb, bits))
        color = tuple(int(value) for value in rgb[2, 2])
        chunk = (b"tRNS", struct.pack(">3H", *color))
        shown = np.where((rgb == color).all(axis=-1, keepdims=True), 1.0, seen(rgb, bits))
        yield Variant("PNG", "RGB", str(bits), "one colour", png(2, bits, rgb, chunk), shown)
        shown = on_white(seen(gray, bits), seen(alpha, bits))
        yield Variant("PNG", "grey", str(bits), "alpha", png(4, bits, np.stack([gray, alpha], -1)), shown, 1.0)
        shown = on_white(seen(rgb, bits), seen(alpha, bits))
        yield Variant("PNG", "RGB", str(bits), "alpha", png(6, bits, np.dstack([rgb, alpha])), shown, 1.0)
    for bits in (1, 2, 4, 8):
        index, colors = palette(bits)
        body = (b"PLTE", colors.astype(np.uint8).tobytes())
        yield Variant("PNG", "palette", str(bits), "none", png(3, bits, index, body), colors[index] / 255)
        alphas = np.linspace(0, 255, len(colors)).round().astype(np.uint8)
        data = png(3, bits, index, body, (b"tRNS", alphas.tobytes()))
        yield Variant(
            "PNG", "palette", str(bits), "alpha", data, on_white(colors[index] / 255, alphas[index] / 255), 1.0
        )


def palette(bits: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return a picture of indices, and red, green and blue of each, 0 to 255."""
    colors = np.random.default_rng(bits).integers(0, 256, (2**bits, 3))
    return quantize(GRAY, bits), colors


def tiff_variants() -> Iterator[Variant]:
    """Yield what TIFF 6.0 and its common extensions allow, in both byte orders."""
    for order, suffix in (("<", "little-endian"), (">", "big-endian")):
        name = f"TIFF, {suffix}"

        def variant(
            color: str,
            bits: int | str,
            transparency: str,
            data: bytes,
            shown: Array,
            tolerance: float = 1.0,
            name: str = name,
        ) -> Variant:
            return Variant(name, color, str(bits), transparency, data, shown, tolerance)

        for bits in (1, 2, 4, 8, 12, 14, 16, 32):
            gray = quantize(GRAY, bits)
            for photometric, color in ((1, "grey"), (0, "grey, white is zero")):
                stored = gray if photometric else 2**bits - 1 - gray
                data = tiff(pack(stored, bits, order), (bits,), photometric, order)
                yield variant(color, bits, "none", data, seen(gray, bits))
        for bits in (8, 16):
            signed = (np.rint(GRAY * (2**bits - 1)) - 2 ** (bits - 1)).astype(f"{order}i{bits // 8}")
            yield variant("grey", f"{bits} signed", "none", tiff(signed.tobytes(), (bits,), 1, order, t339=(2,)), GRAY)
        for size in (2, 4, 8):
            floats = (GRAY * 3 - 1).astype(f"{order}f{size}").tobytes()
            yield variant("grey", f"{8 * size} float", "none", tiff(floats, (8 * size,), 1, order, t339=(3,)), GRAY)
        floats = GRAY.max() - GRAY
        data = tiff(floats.astype(f"{order}f4").tobytes(), (32,), 0, order, t339=(3,))
        yield variant("grey, white is zero", "32 float", "none", data, GRAY)
        for bits in (8, 16, 32):
            rgb, gray, alpha = quantize(RGB, bits), quantize(GRAY, bits), quantize(ALPHA, bits)
            yield variant("RGB", bits, "none", tiff(pack(rgb, bits, order), (bits,) * 3, 2, order), seen(rgb, bits))
            samples = np.dstack([rgb, alpha])
            shown = on_white(seen(rgb, bits), seen(alpha, bits))
            data = tiff(pack(samples, bits, order), (bits,) * 4, 2, order, t338=(2,))
            yield variant("RGB", bits, "alpha", data, shown)
            samples = np.dstack([quantize(RGB * ALPHA[..., None], bits), alpha])
            data = tiff(pack(samples, bits, order), (bits,) * 4, 2, order, t338=(1,))
            yield variant("RGB", bits, "premultiplied alpha", data, shown, 2.5)
            data = tiff(pack(np.stack([gray, alpha], -1), bits, order), (bits,) * 2, 1, order, t338=(2,))
            yield variant("grey", bits, "alpha", data, on_white(seen(gray, bits), seen(alpha, bits)))
            inks = np.dstack([1 - RGB, np.zeros_like(GRAY)])
            yield variant(
                "CMYK", bits, "none", tiff(pack(quantize(inks, bits), bits, order), (bits,) * 4, 5, order), RGB
            )
        for bits in (1, 2, 4, 8):
            index, colors = palette(bits)
            table = tuple(int(value) * 257 for value in colors.T.ravel())
            data = tiff(pack(index, bits, order), (bits,), 3, order, t320=table)
            yield variant("palette", bits, "none", data, colors[index] / 255)
        image = Image.fromarray(quantize(RGB, 8).astype(np.uint8))
        luma = np.asarray(image.convert("YCbCr"), np.int64)
        yield variant("YCbCr", 8, "none", tiff(pack(luma, 8, order), (8,) * 3, 6, order, t530=(1, 1)), RGB, 2.0)
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        lab = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
        assert lab is not None
        stored = np.asarray(lab, np.int64)
        yield variant("Lab", 8, "none", tiff(pack(stored, 8, order), (8,) * 3, 8, order), RGB, 4.0)


def bmp_variants() -> Iterator[Variant]:
    """Yield the depths and layouts of BMP."""
    rgb = quantize(RGB, 8)
    for bits in (1, 4, 8):
        index, colors = palette(bits)
        table = np.column_stack([colors[:, ::-1], np.zeros(len(colors))]).astype(np.uint8).tobytes()
        rows = pack(index[::-1], bits)
        width = len(rows) // SIDE
        padded = b"".join(rows[at : at + width].ljust(-(-width // 4) * 4, b"\0") for at in range(0, len(rows), width))
        yield Variant("BMP", "palette", str(bits), "none", bmp(bits, padded, table), colors[index] / 255)
    five = quantize(RGB, 5)
    words = (five[..., 0] << 10) | (five[..., 1] << 5) | five[..., 2]
    yield Variant("BMP", "RGB", "5", "none", bmp(16, pack(words[::-1], 16, "<")), seen(five, 5), 1.0)
    yield Variant("BMP", "RGB", "8", "none", bmp(24, pack(rgb[::-1, :, ::-1], 8)), seen(rgb, 8))
    alpha = quantize(ALPHA, 8)
    data = bmp(32, pack(np.dstack([rgb[..., ::-1], alpha])[::-1], 8), masks=(0xFF0000, 0xFF00, 0xFF, 0xFF000000))
    yield Variant("BMP", "RGB", "8", "alpha", data, on_white(seen(rgb, 8), seen(alpha, 8)), 1.0)
    four = quantize(RGB, 4)
    words = (four[..., 0] << 8) | (four[..., 1] << 4) | four[..., 2]
    data = bmp(16, pack(words[::-1], 16, "<"), masks=(0xF00, 0xF0, 0xF, 0))
    yield Variant("BMP", "RGB", "4", "none", data, seen(four, 4))


def other_variants() -> Iterator[Variant]:
    """Yield the formats that Pillow and pillow-heif write."""
    rgb, gray, alpha = (quantize(shares, 8).astype(np.uint8) for shares in (RGB, GRAY, ALPHA))
    rgba, shown = np.dstack([rgb, alpha]), on_white(RGB, ALPHA)
    index, colors = palette(8)
    table = colors.astype(np.uint8).ravel().tolist()
    paletted = Image.fromarray(index.astype(np.uint8), "L")
    paletted.putpalette(table)
    for transparency, options in (("none", {}), ("one colour", {"transparency": int(index[20, 20])})):
        buffer = io.BytesIO()
        paletted.save(buffer, "GIF", optimize=False, **options)
        white = np.where((index == options.get("transparency", -1))[..., None], 1.0, colors[index] / 255)
        yield Variant("GIF", "palette", "8", transparency, buffer.getvalue(), white)
    yield Variant("WebP", "RGB", "8", "none", saved(rgb, "WEBP", lossless=True), RGB)
    yield Variant("WebP", "RGB", "8", "alpha", saved(rgba, "WEBP", lossless=True, exact=True), shown, 1.0)
    jpeg = saved(rgb, "JPEG", quality=98, subsampling=0)
    yield Variant("JPEG", "grey", "8", "none", saved(gray, "JPEG", quality=98), GRAY, 3.0)
    yield Variant("JPEG", "RGB", "8", "none", jpeg, RGB, 3.0)
    yield Variant("JPEG", "CMYK", "8", "none", saved(rgb, "JPEG", "CMYK", quality=98), RGB, 3.0)
    frame = jpeg.index(b"\xff\xc0")  # start of frame: marker, length, then bits of a sample (ITU T.81, B.2.2)
    yield Variant("JPEG", "RGB", "12", "none", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :], RGB)
    yield Variant("AVIF", "RGB", "8", "none", saved(rgb, "AVIF", quality=98, subsampling="4:4:4"), RGB, 4.0)
    yield Variant("AVIF", "RGB", "8", "alpha", saved(rgba, "AVIF", quality=98, subsampling="4:4:4"), shown, 6.0)
    for mode, bits, transparency, samples in (
        ("L", "8", "none", gray),
        ("RGB", "8", "none", rgb),
        ("RGBA", "8", "alpha", rgba),
        ("RGB;16", "10", "none", quantize(RGB, 16).astype(np.uint16)),
    ):
        heif = pillow_heif.from_bytes(mode, (SIDE, SIDE), samples.tobytes())
        buffer = io.BytesIO()
        heif.save(buffer, quality=98, chroma=444)
        expected = {"L": GRAY, "RGBA": shown}.get(mode, RGB)
        yield Variant("HEIC", "grey" if mode == "L" else "RGB", bits, transparency, buffer.getvalue(), expected, 6.0)


def all_variants() -> list[Variant]:
    """Return all variants, in the order of the table."""
    sources: tuple[Callable[[], Iterator[Variant]], ...] = (png_variants, tiff_variants, bmp_variants, other_variants)
    return [variant for source in sources for variant in source()]


def difference(variant: Variant, pixels: decoding.Pixels) -> float:
    """Return the mean difference from the pixels of the 8-bit PNG of the same picture."""
    shown = quantize(variant.shown, 8).astype(np.uint8)
    twin = decoding.decode(saved(shown, "PNG"), max_pixels=MAX_PIXELS)
    assert not isinstance(twin, Reject)
    return float(np.abs(pixels.astype(float) - twin.astype(float)).mean())


def result(variant: Variant) -> str:
    """Return what the table says of a variant."""
    outcome = decoding.decode(variant.data, max_pixels=MAX_PIXELS)
    if isinstance(outcome, Reject):
        return f"rejected: `{outcome.reason}`"
    if difference(variant, outcome) > variant.tolerance:
        return f"WRONG by {difference(variant, outcome):.1f}"
    if variant.bits.endswith(("signed", "float")) or variant.bits == "32":
        return "scaled from the image's own range"
    if variant.transparency != "none":
        return "composited on white"
    return "scaled to 8 bits" if variant.bits != "8" and variant.color != "palette" else "read"


def table() -> list[str]:
    """Return the lines of the table of docs/images.md."""
    lines = ["| format | colour | bits of a sample | transparency | result |", "| --- | --- | --- | --- | --- |"]
    for variant in all_variants():
        parts = (variant.format, variant.color, variant.bits, variant.transparency, result(variant))
        lines.append("| " + " | ".join(parts) + " |")
    return lines


def main() -> None:
    """Write the table into docs/images.md."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    DOCUMENT.write_text("\n".join([before + BEGIN, *table(), END + after]), encoding="utf-8")


if __name__ == "__main__":
    main()
