"""The manifests of the last states: in order, bounded, and without the damaged ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from include.lake.layout import Lake
from include.lake.recent import recent_manifests


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with five states."""
    (tmp_path / "manifests").mkdir()
    for state in range(1, 6):
        previous = f"manifests/{state - 1:06d}-run{state - 1}.json" if state > 1 else None
        record = {"state": state, "run": f"run{state}", "previous_manifest": previous}
        (tmp_path / f"manifests/{state:06d}-run{state}.json").write_text(json.dumps(record))
    (tmp_path / "current.json").write_text(json.dumps({"manifest": "manifests/000005-run5.json"}))
    return tmp_path


def states(lake: Path, most: int = 10) -> list[int]:
    return [manifest["state"] for manifest in recent_manifests(Lake(f"file://{lake}"), most, None)]


def test_states_are_read_from_the_published_one_back(lake: Path) -> None:
    assert states(lake) == [5, 4, 3, 2, 1]
    assert states(lake, most=2) == [5, 4]
    (lake / "current.json").write_text(json.dumps({"manifest": "manifests/000003-run3.json"}))
    assert states(lake) == [3, 2, 1], "not those of a run that has lost to another one"


@pytest.mark.parametrize("damage", ["{", "[]", "{}", '{"previous_manifest": 3}', ""])
def test_damaged_manifest_is_skipped_with_a_warning(lake: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    (lake / "manifests/000004-run4.json").write_text(damage)
    with caplog.at_level(logging.WARNING):
        assert states(lake) == [5, 3, 2, 1]
    assert "manifests/000004-run4.json is damaged and is skipped" in caplog.text
    assert states(lake, most=3) == [5, 3], "damaged ones count, so that the number of reads is bounded"


def test_published_manifest_that_is_missing_is_skipped_with_a_warning(
    lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (lake / "manifests/000005-run5.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert states(lake) == [4, 3, 2, 1]
    assert "The manifest of the published state is skipped" in caplog.text


def test_states_that_garbage_collection_has_deleted_end_the_search(
    lake: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for state in (1, 2):
        (lake / f"manifests/{state:06d}-run{state}.json").unlink()
    assert states(lake) == [5, 4, 3]
    assert not caplog.records


def test_lake_without_a_published_state_has_none(tmp_path: Path) -> None:
    assert states(tmp_path) == []
    (tmp_path / "current.json").write_text('{"run": "of the first version"}')
    assert states(tmp_path) == []
