"""The faults that the benchmark plants are there, and its counts are right."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from benchmarks import insights
from benchmarks.insights import add_up, count, pairs, plant


def test_planted_faults_are_in_the_folder(tmp_path: Path) -> None:
    for number in range(40):
        file = tmp_path / "photos" / "abcd"[number % 4] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").rotate(number).save(file, quality=60)
    before = {path.name: path.parent.name for path in (tmp_path / "photos").rglob("*.jpg")}
    planted = plant(tmp_path / "photos", tmp_path / "planted", random.Random(1))
    after = tmp_path / "planted"
    assert len(list(after.rglob("*.jpg"))) == 43
    [swapped] = planted.swapped
    assert before[Path(swapped).name.removeprefix("swapped ")] != Path(swapped).parts[0]
    assert (after / swapped).exists()

    def same(pair: frozenset[str]) -> tuple[bool, bool]:
        first, second = (after / name for name in pair)
        pixels = [Image.open(file).tobytes() for file in (first, second)]
        return first.read_bytes() == second.read_bytes(), pixels[0] == pixels[1]

    assert [same(pair) for pair in planted.copies] == [(True, True)]
    assert [same(pair) for pair in planted.other_metadata] == [(False, True)]
    assert [same(pair) for pair in planted.compressed_again] == [(False, False)]


def test_precision_and_recall() -> None:
    rows = [
        {"group": "1", "kind": "identical_bytes", "path": "x/a"},
        {"group": "1", "kind": "identical_bytes", "path": "x/b"},
        {"group": "1", "kind": "identical_bytes", "path": "x/c"},
        {"group": "2", "kind": "near_features", "path": "x/d"},
        {"group": "2", "kind": "near_features", "path": "x/e"},
    ]
    found = pairs(rows, "x/")
    assert found["identical_bytes"] == {frozenset("ab"), frozenset("ac"), frozenset("bc")}
    assert found["near_features"] == {frozenset("de")}
    counts = count([frozenset("ab"), frozenset("ad")], found["identical_bytes"])
    assert counts == {"planted": 2, "found": 3, "both": 1}
    assert add_up([counts, count([], [])]) == {**counts, "precision": 1 / 3, "recall": 1 / 2}
    assert add_up([count([], [])])["precision"] is None
    kinds = {name: add_up([counts]) for name in insights.KINDS}
    shown = insights.lines({"kinds": kinds, "laps": [1], "insights_seconds": 1.0, "pca_seconds": 2.0})
    assert "33.3%" in shown[2]
