"""Decoding in a child: the pixels are those of decoding at home, and what kills the child costs one file at most."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from pillow_heif import register_heif_opener

from spark_jobs.images import decoder, decoding
from spark_jobs.images.decoder import Decoder, Limits
from spark_jobs.images.decoding import Pixels
from spark_jobs.images.rejects import Reject
from tests.spark_jobs import deadly_decoder

pytestmark = pytest.mark.slow  # every test starts a child process

NAMED = Path(__file__).resolve().parents[2] / "data" / "images"
REPOSITORY = Path(__file__).resolve().parents[3]
MAX_PIXELS = 64_000_000
PLAIN = (NAMED / "good_rgb.jpg").read_bytes()


@pytest.fixture
def child() -> Iterator[Decoder]:
    made = Decoder(Limits(MAX_PIXELS))
    yield made
    made.close()


@pytest.fixture
def deadly() -> Iterator[Decoder]:
    made = Decoder(Limits(MAX_PIXELS), deadly_decoder.PROGRAM)
    yield made
    made.close()


@pytest.fixture
def hasty() -> Iterator[Decoder]:
    """A deadly decoder with a short time limit; a busy machine may exceed it with good files too."""
    made = Decoder(Limits(MAX_PIXELS, seconds=2), deadly_decoder.PROGRAM)
    yield made
    made.close()


def same(found: Pixels | Reject, expected: Pixels | Reject) -> bool:
    if isinstance(found, Reject) or isinstance(expected, Reject):
        return found is expected or found == expected
    return bool(np.array_equal(found, expected))


def children() -> set[int]:
    return {each.pid for each in psutil.Process().children()}


def test_every_named_file_gives_what_decoding_in_this_process_gives(child: Decoder) -> None:
    for path in sorted(NAMED.iterdir()):
        data = path.read_bytes()
        assert same(child.decode(data), decoding.decode(data, max_pixels=MAX_PIXELS)), path.name


def test_one_child_serves_all_files_and_a_large_one_passes_the_pipe(child: Decoder) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)).save(buffer, "BMP")
    before = children()
    for data in (PLAIN, buffer.getvalue(), b"", b"text", PLAIN):
        assert same(child.decode(data), decoding.decode(data, max_pixels=MAX_PIXELS))
    assert len(children() - before) == 1


def test_the_limits_are_those_that_were_given() -> None:
    turned = (NAMED / "good_exif_rotated.jpg").read_bytes()
    strict = Decoder(Limits(max_pixels=100, apply_orientation=True))
    upright = Decoder(Limits(MAX_PIXELS, apply_orientation=True))
    outcome = strict.decode(PLAIN)
    assert isinstance(outcome, Reject)
    assert outcome.reason == "too_many_pixels"
    assert same(upright.decode(turned), decoding.decode(turned, max_pixels=MAX_PIXELS, apply_orientation=True))
    strict.close()
    upright.close()


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (deadly_decoder.SEGFAULT, "SIGSEGV"),
        (deadly_decoder.MEMORY, "more memory than the limit of 1024 MiB"),
        (deadly_decoder.KILLED, "SIGKILL"),
        (deadly_decoder.EXIT, "exit code 3"),
    ],
)
def test_a_file_that_kills_its_decoder_is_a_reject_and_the_next_is_decoded(
    deadly: Decoder, data: bytes, detail: str
) -> None:
    expected = decoding.decode(PLAIN, max_pixels=MAX_PIXELS)
    assert same(deadly.decode(PLAIN), expected)
    outcome = deadly.decode(data)
    assert isinstance(outcome, Reject)
    assert outcome.reason == "decoder_crashed"
    assert detail in outcome.detail
    assert same(deadly.decode(PLAIN), expected)
    assert same(deadly.decode(data), outcome)  # in a child that is not fresh, as in one that is


def test_a_file_that_never_ends_is_a_reject(hasty: Decoder) -> None:
    outcome = hasty.decode(deadly_decoder.ENDLESS)
    assert isinstance(outcome, Reject)
    assert (outcome.reason, outcome.detail) == ("decoder_crashed", "decoding took more than 2 s")


def test_what_an_earlier_file_has_broken_costs_no_other(deadly: Decoder) -> None:
    deadly.decode(deadly_decoder.DELAYED)
    assert same(deadly.decode(PLAIN), decoding.decode(PLAIN, max_pixels=MAX_PIXELS))


@pytest.mark.parametrize("data", [deadly_decoder.GOOD, deadly_decoder.FRAGILE])
def test_a_good_photo_after_two_leaking_ones_is_decoded(deadly: Decoder, data: bytes) -> None:
    """The memory that is missing is that of earlier files, also if a library reports its lack as damage."""
    for _ in range(2):
        deadly.decode(deadly_decoder.LEAK)
    pixels = deadly.decode(data)
    assert not isinstance(pixels, Reject), pixels
    assert (pixels == (255, 0, 0)).all()


def test_a_photo_that_is_slow_because_of_an_earlier_one_is_decoded(hasty: Decoder) -> None:
    hasty.decode(deadly_decoder.SLOWING)
    assert same(hasty.decode(PLAIN), decoding.decode(PLAIN, max_pixels=MAX_PIXELS))


def test_a_child_that_died_while_it_had_nothing_to_do_is_replaced(child: Decoder) -> None:
    before = children()
    child.decode(PLAIN)
    (pid,) = children() - before
    os.kill(pid, signal.SIGKILL)
    assert same(child.decode(PLAIN), decoding.decode(PLAIN, max_pixels=MAX_PIXELS))


def test_a_real_image_that_takes_more_than_the_limit_of_memory_is_a_reject() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (10_000, 6_000)).save(buffer, "PNG")  # 240 MB of pixels in 180 KB
    small, large = Decoder(Limits(MAX_PIXELS, memory_bytes=256 * 2**20)), Decoder(Limits(MAX_PIXELS))
    outcome = small.decode(buffer.getvalue())
    assert isinstance(outcome, Reject)
    assert (outcome.reason, outcome.detail) == (
        "decoder_crashed",
        "decoding takes more memory than the limit of 256 MiB",
    )
    assert same(small.decode(PLAIN), decoding.decode(PLAIN, max_pixels=MAX_PIXELS))
    assert not isinstance(large.decode(buffer.getvalue()), Reject)
    small.close()
    large.close()


ENCODER_OPTIONS: dict[str, dict[str, object]] = {
    "TIFF": {"compression": "tiff_lzw"},
    "AVIF": {"speed": 10},
    "WEBP": {"method": 0},
    "HEIF": {"quality": 50},
}
"""Options that keep the files small and the encoders fast."""

LARGEST = [("PNG", "RGBA"), ("JPEG", "CMYK"), ("WEBP", "RGBA")]
"""The most frequent formats with the mode that takes the most memory; and WebP, which has another bound."""

OTHERS = [
    *(("PNG", "I;16"), ("TIFF", "CMYK"), ("AVIF", "RGBA")),
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB")),
    *(("TIFF", mode) for mode in ("YCbCr", "F", "I", "RGBA")),
    ("HEIF", "RGBA"),  # the encoder takes 24 s of CPU time
]


@pytest.mark.parametrize(
    ("kind", "mode"), [*LARGEST, *(pytest.param(*case, marks=pytest.mark.soak) for case in OTHERS)]
)
def test_the_largest_image_that_is_taken_fits_into_the_default_memory(kind: str, mode: str) -> None:
    """With its EXIF orientation, which takes one more copy. docs/images.md states the bound of WebP."""
    register_heif_opener()
    document = (Path(__file__).resolve().parents[3] / "docs" / "images.md").read_text(encoding="utf-8")
    assert "WebP fits up to 50 million pixels" in document
    side = 7_071 if kind == "WEBP" else 8_000
    exif = Image.Exif()
    exif[0x0112] = 6
    options = ENCODER_OPTIONS.get(kind, {})
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, kind, exif=exif, **options)
    made = Decoder(Limits(MAX_PIXELS, apply_orientation=True))
    assert not isinstance(made.decode(buffer.getvalue()), Reject)
    made.close()


def test_a_child_that_cannot_start_is_an_error_and_no_reject() -> None:
    broken = Decoder(Limits(MAX_PIXELS), ("-c", "import sys; sys.exit('no Pillow here')"))
    with pytest.raises(RuntimeError, match=r"cannot start \(exit code 1\): no Pillow here"):
        broken.decode(PLAIN)


def test_nothing_that_a_decoder_prints_reaches_the_workers_log(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import os; from spark_jobs.images import decode_child, decoding\n"
        "def decode(data, **limits):\n"
        "    print('noise'); os.write(1, b'noise'); os.write(2, b'noise')\n"
        "    return decoding.decode_picture(data, **limits)\n"
        "decode_child.main(decode)"
    )
    noisy = Decoder(Limits(MAX_PIXELS), ("-c", code))
    assert same(noisy.decode(PLAIN), decoding.decode(PLAIN, max_pixels=MAX_PIXELS))
    noisy.close()
    assert capfd.readouterr() == ("", "")


def test_the_child_imports_neither_spark_nor_the_model_nor_numpy() -> None:
    code = "import sys, spark_jobs.images.decode_child; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not {"numpy", "pyarrow", "pyspark", "ai_edge_litert", "obstore"} & set(done.stdout.split())


@pytest.mark.parametrize("busy", [False, True])
def test_the_child_does_not_outlive_its_worker(busy: bool) -> None:
    """Killed as Spark kills workers; even while the child is in code that never ends, its own time limit ends it."""
    data = deadly_decoder.ENDLESS if busy else PLAIN
    code = (
        "import sys, threading, time; from spark_jobs.images.decoder import Decoder, Limits; import psutil\n"
        f"made = Decoder(Limits({MAX_PIXELS}, seconds=3), {deadly_decoder.PROGRAM!r})\n"
        f"made.decode({PLAIN[:100]!r})\n"
        f"threading.Thread(target=made.decode, args=({data!r},)).start(); time.sleep(0.3)\n"
        "print(psutil.Process().children()[0].pid, flush=True); time.sleep(60)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    with worker.stdout as output:
        orphan = psutil.Process(int(output.readline()))
        worker.kill()
        worker.wait()
    try:
        orphan.wait(20)
    except psutil.TimeoutExpired:
        orphan.kill()
        raise


def test_a_process_keeps_one_decoder_and_ends_the_one_before() -> None:
    first = decoder.shared(Limits(MAX_PIXELS))
    before = children()
    first.decode(PLAIN)
    assert decoder.shared(Limits(MAX_PIXELS)) is first
    second = decoder.shared(Limits(1))
    assert second is not first
    deadline = time.monotonic() + 10
    while children() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert children() == before
    second.decode(PLAIN)
    third = decoder.shared(Limits(MAX_PIXELS))  # the limits of the first again
    with contextlib.closing(third):
        third.decode(PLAIN)
        assert len(children() - before) == 1
