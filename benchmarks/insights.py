"""Planted faults among the photos: how many the report finds, and how many of its finds are planted.

Of all photos, 1 % get the label of other photos, and 1 % each are copied: as they are, with other metadata, compressed
again. No photo has two of these faults. Both steps run as in the DAG, and the lists beside the report are compared with
what was planted. What a list has beyond that may be real: a photo that looks like another fruit, or two photos of a
turntable that hardly differ. It counts as wrong.
"""

from __future__ import annotations

import csv
import itertools
import random
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import pipeline
from benchmarks.inputs import PATTERN
from benchmarks.rates import median
from benchmarks.table import Bench, markdown
from local.images.loading import find_images
from spark_jobs.args import DUPLICATES_FILE, UNLIKE_LABEL_FILE

DESCRIPTION = "precision and recall of swapped labels and copies that are planted among the photos"

LAPS = 3
SHARE = 0.01
QUALITY = 85
"""JPEG quality of the copies that are encoded again; Pillow's default is 75."""

COMMENT = b"\xff\xfe\x00\x09planted"
"""A JPEG segment that decoders skip (ITU-T T.81, section B.2.4.5)."""

Pair = frozenset[str]


@dataclass(frozen=True)
class Planted:
    """Faults, by paths relative to the folder of photos.

    Attributes
    ----------
    swapped : frozenset of str
        Photos in the folder of another label.
    copies, other_metadata, compressed_again : frozenset of Pair
        Photos and their copies: with the same bytes, with the same pixels, and with another JPEG quality.
    """

    swapped: frozenset[str]
    copies: frozenset[Pair]
    other_metadata: frozenset[Pair]
    compressed_again: frozenset[Pair]


def measure(bench: Bench) -> dict[str, Any]:
    """Plant faults in each lap, run both steps, and compare."""
    laps = [_lap(bench, lap) for lap in range(1, (bench.laps or LAPS) + 1)]
    for lap in laps:
        print({name: lap[name] for name in KINDS}, flush=True)
    return {
        "share": SHARE,
        "quality": QUALITY,
        "laps": laps,
        "kinds": {name: add_up([lap[name] for lap in laps]) for name in KINDS},
        "insights_seconds": median(lap["insights_seconds"] for lap in laps),
        "pca_seconds": median(lap["pca_seconds"] for lap in laps),
    }


KINDS = ("swapped labels", "identical files", "copies with other metadata", "copies compressed again")


def _lap(bench: Bench, lap: int) -> dict[str, Any]:
    folder, name = bench.work / f"planted-{lap}", f"planted-{lap}"
    planted = plant(bench.images, folder, random.Random(lap))
    pipeline.featurize(bench, folder, name)
    step = pipeline.pca(bench, name)
    run = pipeline.run_folder(bench, name)
    root = f"{pipeline.uri(folder)}/"
    suspects = {row["path"].removeprefix(root) for row in _rows(run / UNLIKE_LABEL_FILE)}
    found = pairs(_rows(run / DUPLICATES_FILE), root)
    shutil.rmtree(folder)
    expected = (planted.copies, planted.other_metadata, planted.compressed_again)
    actual = (found["identical_bytes"], found["equal_features"], found["near_features"])
    copies = [count(pairs_planted, pairs_found) for pairs_planted, pairs_found in zip(expected, actual, strict=True)]
    return {
        **dict(zip(KINDS, [count(planted.swapped, suspects), *copies], strict=True)),
        "insights_seconds": step["summary"]["seconds"]["insights"],
        "pca_seconds": step["summary"]["seconds"]["total"],
    }


def plant(source: Path, target: Path, chance: random.Random) -> Planted:
    """Copy a folder of photos with faults in ``SHARE`` of them, one of each kind at least.

    Parameters
    ----------
    source : Path
        Folder of <label>/*.jpg with two labels or more.
    target : Path
        Folder to create.
    chance : Random
    """
    shutil.copytree(source, target)
    names = sorted(find_images(target, PATTERN))
    labels = sorted({Path(name).parts[0] for name in names})
    number = max(1, round(SHARE * len(names)))
    chosen = [str(name) for name in chance.sample(names, len(KINDS) * number)]
    swapped = []
    for name in chosen[:number]:
        path = Path(name)
        other = chance.choice([label for label in labels if label != path.parts[0]])
        moved = Path(other, f"swapped {path.name}")
        (target / path).rename(target / moved)
        swapped.append(str(moved))
    made: dict[str, set[Pair]] = {"copy": set(), "metadata": set(), "again": set()}
    for position, name in enumerate(chosen[number:]):
        kind = list(made)[position // number]
        copy = str(Path(name).with_name(f"{kind} {Path(name).name}"))
        _copy(target / name, target / copy, kind)
        made[kind].add(frozenset({name, copy}))
    return Planted(frozenset(swapped), *(frozenset(found) for found in made.values()))


def _copy(photo: Path, copy: Path, kind: str) -> None:
    data = photo.read_bytes()
    if kind == "again":
        with Image.open(photo) as opened:
            opened.save(copy, quality=QUALITY)
    else:
        copy.write_bytes(data if kind == "copy" else data[:2] + COMMENT + data[2:])


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def pairs(rows: Iterable[Mapping[str, str]], root: str) -> dict[str, set[Pair]]:
    """Return the pairs of photos in the same group, by the kind of the group."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        groups.setdefault((row["group"], row["kind"]), []).append(row["path"].removeprefix(root))
    found: dict[str, set[Pair]] = {"identical_bytes": set(), "equal_features": set(), "near_features": set()}
    for (_, kind), members in groups.items():
        found[kind] |= {frozenset(pair) for pair in itertools.combinations(members, 2)}
    return found


def count(planted: Iterable[Any], found: Iterable[Any]) -> dict[str, int]:
    """Count what was planted, what was found, and what is both."""
    expected, actual = set(planted), set(found)
    return {"planted": len(expected), "found": len(actual), "both": len(expected & actual)}


def add_up(counts: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    """Return the sums of counts, with precision and recall; None if nothing was found or planted."""
    total = {name: sum(each[name] for each in counts) for name in ("planted", "found", "both")}
    precision = total["both"] / total["found"] if total["found"] else None
    recall = total["both"] / total["planted"] if total["planted"] else None
    return {**total, "precision": precision, "recall": recall}


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table of precision and recall."""
    rows = [
        [
            name,
            *(str(each[key]) for key in ("planted", "found", "both")),
            _share(each["precision"]),
            _share(each["recall"]),
        ]
        for name, each in result["kinds"].items()
    ]
    table = markdown(["fault", "planted", "found", "both", "precision", "recall"], rows)
    seconds = f"The insights take {result['insights_seconds']:.1f} of {result['pca_seconds']:.1f} s of the pca step."
    return [*table, "", f"Sums over {len(result['laps'])} laps. {seconds}"]


def _share(value: float | None) -> str:
    return "—" if value is None else f"{value:.1%}"
