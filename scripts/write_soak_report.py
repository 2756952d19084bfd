"""Write docs/soak/<date>.md from the result of `make soak` (a JUnit file)."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from scripts.machine import ROOT, describe_commit, describe_machine


def main() -> int:
    """Run the command: the JUnit file is its argument."""
    cases = ET.parse(sys.argv[1]).getroot().iter("testcase")
    now = datetime.now(UTC)
    machine = f"`make soak` at {describe_commit()}, {describe_machine()}."
    lines = [
        f"# Soak of {now:%Y-%m-%d}",
        "",
        machine,
        "",
        "| test | outcome | seconds |",
        "| --- | --- | --- |",
    ]
    for case in cases:
        bad = [kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None]
        lines.append(f"| `{case.get('name')}` | {bad[0] if bad else 'passed'} | {float(case.get('time', 0)):.0f} |")
    target = ROOT / "docs" / "soak" / f"{now:%Y-%m-%d}.md"
    target.parent.mkdir(exist_ok=True)
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{target.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
