"""The readers that docs/lake.md shows, run as they stand there, during all moments of a publication."""

from __future__ import annotations

import importlib
import itertools
import json
import pathlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from include.lake import commit as commits
from include.lake import publication
from include.lake.publication import show_published
from tests.include.lake.faults import Steps, observed
from tests.include.lake.places import Folder, commit_run, publish
from tests.include.run_folders import write_run, write_segment, write_state

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "lake.md"
FIRST, SECOND = "20261121T120000Z-aaaaaaaa", "20261122T120000Z-aaaaaaaa"
READERS = ("pandas", "duckdb", "polars")
"""Libraries; Spark's reader is in tests/spark_jobs."""


def blocks() -> dict[str, str]:
    """Return the code of each reader in the document, by the library that it uses."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Reading a state")[2].partition("\n## ")[0]
    found = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    return {re.findall(r"(\w+)\.(?:concat|read)", block)[0]: block for block in found}


def read(library: str, root: Path) -> tuple[list[str], list[str], int]:
    """Read the published state as documented; return the paths of features and scores, and the number of the state."""
    module: ModuleType = importlib.import_module(library)
    variables: dict[str, Any] = {"root": str(root), "json": json, "pathlib": pathlib, library: module}
    exec(blocks()[library], variables)
    features, scores = variables["features"], variables["scores"]
    if library == "duckdb":
        features, scores = features.df(), scores.df()
    names = [list(table.columns) for table in (features, scores)]
    assert names == [["path", "label", "features"], ["path", "label", "components"]]
    return sorted(features["path"]), sorted(scores["path"]), variables["state"]["state"]


def test_document_has_three_lines_for_each_reader() -> None:
    assert {name: len(block.splitlines()) for name, block in blocks().items()} == dict.fromkeys(
        ("pandas", "spark", "duckdb", "polars"), 3
    )


@pytest.mark.parametrize("library", READERS)
def test_reader_sees_one_row_per_image_of_one_complete_state_at_every_moment_of_a_publication(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_RJEM_MALLOC_CONF", "background_thread:true")  # polars sets it when it is imported
    place = Folder(tmp_path / "lake é+")
    runs = [write_run(place.root, 5, FIRST)]
    segments = [write_segment(place.root, f"{SECOND}-00112233-0000{number}", 4, 4 * number) for number in range(2)]
    runs.append(write_state(place.root, SECOND, segments, work=8))
    publish(place, runs[0])
    expected = {}
    for number, run in enumerate(runs, 1):
        paths = sorted(pd.read_parquet(run / "pca" / "scores")["path"])
        expected[number] = (paths, paths, number)
    assert read(library, place.root) == expected[1]
    seen: list[int] = []

    def look() -> None:
        found = read(library, place.root)
        assert found == expected[found[2]]
        seen.append(found[2])

    steps = Steps(-2, lambda: None, look)
    with (
        observed(monkeypatch, commits, ("create", "replace"), steps),
        observed(monkeypatch, publication, ("copy", "delete_file", "write_json"), steps),
    ):
        commit_run(place, runs[1])
        show_published(place.lake, place.conn)
    assert [number for number, _ in itertools.groupby(seen)] == [1, 2], "the new state, from one moment on"
    assert len(seen) >= 14


def test_folder_of_the_notebook_is_read_as_the_document_says(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    [code] = re.findall(r'`(pandas\.read_parquet\(f"\{root\}/results"\))`', text)
    publish(Folder(tmp_path), write_run(tmp_path, 5, FIRST))
    frame = eval(code, {"pandas": importlib.import_module("pandas"), "root": str(tmp_path)})
    assert list(frame.columns) == ["path", "label", "features"]
    assert frame["path"].is_unique
    assert len(frame) == 5
