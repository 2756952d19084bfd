"""A generated sample of images, for a machine without photos; it is seeded, so it is the same on every machine."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

LABELS = {
    "Apple Red": ((178, 34, 40), 1.0),
    "Apple Golden": ((214, 190, 84), 1.0),
    "Banana": ((232, 205, 70), 2.6),
    "Kiwi": ((121, 98, 52), 1.25),
    "Lemon": ((240, 216, 58), 1.4),
    "Lime": ((116, 160, 52), 1.3),
    "Orange": ((235, 130, 30), 1.0),
    "Plum": ((82, 44, 92), 1.15),
}
"""Maps each label to its colour (RGB) and its ratio of length to width."""

IMAGES_PER_LABEL = 30
SIZE = 100
"""Width and height in pixels."""


def make_sample(folder: Path) -> None:
    """Write the sample, ``<label>/<number>_<size>.jpg``, unless it is complete already."""
    done = folder.with_name(f"{folder.name}.complete")  # beside the folder, which holds nothing but images
    if done.exists():
        return
    for label in LABELS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(IMAGES_PER_LABEL):
            draw_fruit(label, number).save(folder / label / f"{number}_{SIZE}.jpg", quality=90)
    done.touch()


def draw_fruit(label: str, number: int) -> Image.Image:
    """Return a drawing of a fruit: a shaded, speckled ellipse on white, rotated at random."""
    source = random.Random(f"{label} {number}")
    colour, ratio = LABELS[label]
    image = Image.new("RGB", (SIZE, SIZE), "white")
    body = Image.new("L", (SIZE, SIZE), 0)
    half = source.uniform(30, 42)
    box = [50 - half, 50 - half / ratio, 50 + half, 50 + half / ratio]
    ImageDraw.Draw(body).ellipse(box, fill=255)
    skin = Image.new("RGB", (SIZE, SIZE), tuple(_vary(source, value, 18) for value in colour))
    pen = ImageDraw.Draw(skin)
    for _ in range(220):
        x, y, radius = source.uniform(0, SIZE), source.uniform(0, SIZE), source.uniform(0.5, 2.5)
        shade = source.uniform(0.7, 1.2)
        spot = tuple(min(255, int(value * shade)) for value in colour)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=spot)
    light = source.uniform(30, 70)
    pen.ellipse([light - 9, 36, light + 9, 44], fill=tuple((value + 510) // 3 for value in colour))
    image.paste(skin.filter(ImageFilter.GaussianBlur(1.2)), mask=body)
    return image.rotate(source.uniform(0, 360), fillcolor="white", resample=Image.Resampling.BICUBIC)


def _vary(source: random.Random, value: int, spread: int) -> int:
    return max(0, min(255, value + source.randint(-spread, spread)))
