"""Write docs/kills.md from results of `make soak` (JUnit files): every interrupted write, and what was proved."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from scripts.machine import ROOT, describe_machine

TARGET = ROOT / "docs" / "kills.md"

HEAD = """# Killed at every write

Written by `make soak` from its results. A run of the second day is interrupted at each of its writes, deletions and
copies, in a lake in a folder and in a bucket on SeaweedFS. **before** and **after** kill the process (SIGKILL) before
or after the operation; **answer lost** performs the operation and loses the store's answer, on S3 only. The run is then
repeated: by repeating the interrupted task, and by repeating the whole run. `tests/end_to_end/kills/` has the code: the
tasks and jobs themselves, with a stand-in for the model.{erasures}

After each interruption, and after the repetition:
- readers that start from `current.json` see exactly the old or the new state, with all of its files;
- a reader of `results/` misses no row; on a day that only adds photos, no row is there twice.

After the repetition:
- features, rejects, scores and CSV equal those of an uninterrupted run;
- after garbage collection, no file is left that no manifest names.

{machine} {date}: {total} interruptions, {failed} failed ({repeated}).{random}

| operation | store | interruptions | before | after | answer lost |
| --- | --- | ---: | --- | --- | --- |
"""

ERASURES = """ An erasure (`make forget`) of a photo and of a reject is
interrupted in the same way, in a folder and in a bucket with versions: after its repetition, every kept state and the
names of all files equal those of an uninterrupted one, and no version of any file has a name of an erased photo."""

MOMENTS = ("before", "after", "lost")


def main() -> int:
    """Run the command: its arguments are the JUnit files."""
    passed: Counter[tuple[str, str, str]] = Counter()
    repeated: Counter[str] = Counter()
    failed: list[str] = []
    random: list[str] = []
    commits: set[str] = set()
    erasures = False
    for case in (case for name in sys.argv[1:] for case in ET.parse(Path(name)).getroot().iter("testcase")):
        if "kills.test_" not in case.get("classname", "") or case.find("skipped") is not None:
            continue
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", ""))
        erasures |= "test_erasure_kills" in case.get("classname", "")
        for item in case.iter("property"):
            if item.get("name") == "commit":
                commits.add(item.get("value") or "")
            if item.get("name") == "kills":
                store, _, moment, resumed, operations = json.loads(item.get("value") or "[]")
                passed.update((operation, store, moment) for operation in operations)
                repeated[f"{store}, {'task' if resumed else 'run'} repeated"] += len(operations)
            if item.get("name") == "random kills":
                store, trials = json.loads(item.get("value") or "[]")
                random.append(f" {trials} runs were killed at random moments with all their processes ({store}).")
    if not passed and not failed:
        sys.stdout.write("no write was interrupted\n")
        return 0
    machine = f"Interrupted at {', '.join(sorted(commits))}, {describe_machine()}."
    head = HEAD.format(
        machine=machine,
        erasures=ERASURES if erasures else "",
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        total=passed.total(),
        failed=len(failed),
        repeated="; ".join(f"{what}: {count}" for what, count in sorted(repeated.items())),
        random="".join(random),
    )
    lines = [_line(operation, store, passed) for operation, store in sorted({key[:2] for key in passed})]
    TARGET.write_text(head + "\n".join([*lines, *(f"| **failed: {name}** | | | | | |" for name in failed)]) + "\n")
    sys.stdout.write(f"{TARGET.relative_to(ROOT)}: {passed.total()} interruptions\n")
    return 0


def _line(operation: str, store: str, passed: Counter[tuple[str, str, str]]) -> str:
    counts = [passed[operation, store, moment] for moment in MOMENTS]
    cells = ["passed" if count else "—" for count in counts]
    return f"| `{operation}` | {store} | {sum(counts)} | {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main())
