"""Write docs/fault-matrix.md from the result of `make soak` (a JUnit file).

A cell that was not run keeps its previous result.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from scripts.machine import ROOT, describe_commit, describe_machine

TARGET = ROOT / "docs" / "fault-matrix.md"

HEAD = """# Fault matrix

Written by `make soak` from its results. The cells are defined in `tests/end_to_end/fault_matrix.py` and
`tests/end_to_end/service/test_recovery.py`. Each cell is a run of the DAG through Airflow, against the local EMR
endpoint, with real Spark steps. If a cell has passed, no cluster was left running, none was duplicated, the previously
published results were complete, and a failed run had no manifest.

{machine}

| fault | injected at | state of the run | reported in the task's log | result | seconds | date |
| --- | --- | --- | --- | --- | ---: | --- |
"""


def read_cells(junit: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the key (fault, and when it is injected) and the line of each cell."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    for case in ET.parse(junit).getroot().iter("testcase"):
        found = {item.get("name"): item.get("value") or "" for item in case.iter("property")}
        if "fault" not in found or case.find("skipped") is not None:
            continue
        bad = [kind for kind in ("failure", "error") if case.find(kind) is not None]
        result = f"**{bad[0]}**" if bad else "passed"
        cells = [found["fault"], found["when"], found.get("ended", ""), found.get("diagnosis", "").lower(), result]
        line = " | ".join([*cells, f"{float(case.get('time', 0)):.0f}", day])
        yield (found["fault"], found["when"]), f"| {line} |"


def read_lines(text: str) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the keys and lines of a document."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and re.fullmatch(r"\d{4}-\d\d-\d\d", cells[6]):
            yield (cells[0], cells[1]), line


def main() -> int:
    """Run the command: the JUnit file is its argument."""
    cells = dict(read_cells(Path(sys.argv[1])))
    if not cells:
        sys.stdout.write("no cell of the fault matrix was run\n")
        return 0
    old = dict(read_lines(TARGET.read_text(encoding="utf-8"))) if TARGET.exists() else {}
    machine = f"Last written at {describe_commit()}, {describe_machine()}."
    lines = [line for _, line in sorted((old | cells).items())]
    TARGET.write_text(HEAD.format(machine=machine) + "\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{TARGET.relative_to(ROOT)}: {len(cells)} cells\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
