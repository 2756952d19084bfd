"""The document of the fault matrix has every cell, and every cell has passed."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.write_fault_matrix import read_lines
from tests.end_to_end.fault_matrix import TASKS, all_cells

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "fault-matrix.md").read_text(encoding="utf-8")


def test_every_cell_is_in_the_document_and_no_other() -> None:
    assert {key for key, _ in read_lines(DOCUMENT)} == all_cells(), "run `make soak` for the cells that are missing"


def test_every_cell_has_passed() -> None:
    assert [line for _, line in read_lines(DOCUMENT) if "| passed |" not in line] == []


def test_every_task_of_the_dag_is_killed_in_some_cell() -> None:
    source = (ROOT / "dags" / "fruit_features.py").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in source.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(TASKS) == documented
