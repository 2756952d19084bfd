"""Any bytes at all give features or a reject: never an exception, never NaN, never a lost worker."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spark_jobs.images.decoder import Decoder, Limits
from spark_jobs.images.rejects import REASONS, Reject
from spark_jobs.model import mobilenet
from tests.spark_jobs.mutations import good_files

BEGINNINGS = [b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\0\0\0\0WEBPVP8 "]
"""What the formats that are read begin with."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder(Limits(max_pixels=1_000_000))
    yield made
    made.close()


@pytest.fixture(scope="module")
def extract(model_folder: Path) -> mobilenet.Extract:
    return mobilenet.Extractor(mobilenet.read(model_folder.as_uri()).flatbuffer)


def check(data: bytes, decoder: Decoder, extract: mobilenet.Extract) -> None:
    pixels = decoder.decode(data)
    if isinstance(pixels, Reject):
        assert pixels.reason in REASONS
        assert pixels.detail
    else:
        assert np.isfinite(extract(pixels)).all()


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=2_000), st.builds(bytes.__add__, st.sampled_from(BEGINNINGS), st.binary())))
def test_any_bytes(data: bytes, decoder: Decoder, extract: mobilenet.Extract) -> None:
    check(data, decoder, extract)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_change_of_a_good_file(data: st.DataObject, decoder: Decoder, extract: mobilenet.Extract) -> None:
    content = bytearray(data.draw(st.sampled_from(good_files())).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        if not content:
            break
    check(bytes(content), decoder, extract)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_picture_in_any_format_and_mode(data: st.DataObject, decoder: Decoder, extract: mobilenet.Extract) -> None:
    """Good files of every size and kind that Pillow can write are features, whatever their pixels are."""
    mode = data.draw(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK"]))
    kinds = {"I;16": ["PNG", "TIFF"], "I": ["TIFF"], "F": ["TIFF"], "CMYK": ["JPEG", "TIFF"], "LA": ["PNG", "TIFF"]}
    kind = data.draw(st.sampled_from(kinds.get(mode, ["PNG", "TIFF", "GIF", "WEBP"])))
    width, height = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    picture = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(
        "L" if mode == "I;16" else mode
    )
    if mode == "I;16":
        picture = Image.fromarray(random.integers(0, 65536, (height, width), dtype=np.uint16))
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    pixels = decoder.decode(buffer.getvalue())
    assert not isinstance(pixels, Reject), pixels
    assert np.isfinite(extract(pixels)).all()
