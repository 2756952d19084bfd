"""The benchmark of a classifier keeps the photos of a turn together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import classifier
from benchmarks.classifier import compare, lines, turn_of


@pytest.mark.parametrize(
    ("path", "turn"),
    [
        ("file:///data/Apple Red 2/16_100.jpg", "Apple Red 2/"),
        ("file:///data/Apple Red 2/r_16_100.jpg", "Apple Red 2/r_"),
        ("s3://bucket/data/Tomato 3/r2_0_100.jpg", "Tomato 3/r2_"),
        ("s3://bucket/data/Kiwi/IMG12.jpeg", "Kiwi/IMG"),
    ],
)
def test_turn_of_a_photo_is_its_label_and_the_text_before_its_number(path: str, turn: str) -> None:
    assert turn_of(path) == turn


def test_features_of_the_turn_help_only_if_photos_are_held_out_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn has a place of its own, so only a photo of the same turn tells the label."""
    monkeypatch.setattr(classifier, "REPETITIONS", 1)
    random = np.random.default_rng(1)
    paths = [f"/d/{label}/{turn}{number}_100.jpg" for label in "abcd" for turn in ("", "r_") for number in range(20)]
    turns = sorted({turn_of(path) for path in paths})
    places = dict(zip(turns, 100 * random.permutation(np.eye(len(turns))), strict=True))
    vectors = [places[turn_of(path)] + random.normal(size=len(turns)) for path in paths]
    labels = [path.split("/")[2] for path in paths]
    photos = pd.DataFrame({"path": paths, "label": labels, "components": vectors, "features": vectors})
    rows = compare(photos)
    assert len(rows) == 6
    for row in rows:
        assert row["random"]["lowest"] > 0.95, row
        assert row["turns"]["highest"] < 0.6, row
    best = {"mean": 0.5, "lowest": 0.25, "highest": 1.0}
    [*_, line] = lines({"rows": [{"classifier": "c", "input": "i", "turns": best, "random": best}]})
    assert [cell.strip() for cell in line.split("|")[1:-1]] == ["c, i", *["50.0% (25.0%–100.0%)"] * 2]


def test_photos_of_one_turn_cannot_be_held_out() -> None:
    photos = pd.DataFrame({"path": ["/d/a/1.jpg", "/d/a/2.jpg"], "label": ["a", "a"]})
    with pytest.raises(SystemExit, match="photos of one turn only, so no turn can be held out: a"):
        compare(photos)
