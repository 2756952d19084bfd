"""Damaged images: the named good ones, each changed in several ways, the same ones each time."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

NAMED = Path(__file__).resolve().parents[1] / "data" / "images"
SEED = 20261122


def cut(data: bytes, random: random.Random) -> bytes:
    return data[: random.randrange(len(data))]


def flip_bits(data: bytes, random: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice([1, 3, 30])):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def flip_header(data: bytes, random: random.Random) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(min(64, len(data)))] = random.randrange(256)
    return bytes(changed)


def blank(data: bytes, random: random.Random) -> bytes:
    first = random.randrange(len(data))
    length = random.randrange(1, 1 + len(data) - first)
    return data[:first] + bytes([random.choice([0, 255])]) * length + data[first + length :]


def insert(data: bytes, random: random.Random) -> bytes:
    place = random.randrange(len(data))
    return data[:place] + random.randbytes(random.randrange(1, 64)) + data[place:]


def repeat(data: bytes, random: random.Random) -> bytes:
    first = random.randrange(len(data))
    return data[:first] + data[first // 2 :]


def lie_about_length(data: bytes, random: random.Random) -> bytes:
    """Put a great or a negative number where a length or a size may be."""
    place = random.randrange(max(1, len(data) - 4))
    number = random.choice([0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x00010000, 0])
    return data[:place] + struct.pack(random.choice("<>") + "I", number) + data[place + 4 :]


def join(data: bytes, random: random.Random) -> bytes:
    other = random.choice(good_files()).read_bytes()
    return data[: random.randrange(len(data))] + other[random.randrange(len(other)) :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(cut, flip_bits, flip_bits, flip_header, flip_header, flip_header),
    *(blank, insert, repeat, lie_about_length, lie_about_length, join),
)


def good_files() -> list[Path]:
    return sorted(NAMED.glob("good_*"))


def corpus() -> Iterator[tuple[str, bytes]]:
    """Yield names and contents: as many as there are good files times mutations."""
    generator = random.Random(SEED)
    for path in good_files():
        for number, mutate in enumerate(MUTATIONS):
            yield f"{path.stem}-{number:02}-{mutate.__name__}.jpg", mutate(path.read_bytes(), generator)
