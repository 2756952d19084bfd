"""Every link from a document to a file, and to a heading in it, leads somewhere."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", flags=re.M | re.S)


def documents() -> list[Path]:
    command = ["git", "ls-files", "-co", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines()]


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Return the file and the anchor of each relative link."""
    for target in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        name, _, anchor = target.partition("#")
        yield (document.parent / name if name else document), anchor


def anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text(encoding="utf-8")), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone: git lists the documents")
def test_links_between_documents_and_to_files_lead_somewhere() -> None:
    found = [(document, *link) for document in documents() for link in links(document)]
    assert len(found) > 100
    broken = [
        f"{document.relative_to(ROOT)}: {file.name}#{anchor}"
        for document, file, anchor in found
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert broken == [], "fix the link, or restore what it names"


def test_the_notebook_has_twenty_cells_and_each_has_a_place() -> None:
    document = (ROOT / "docs" / "from-the-notebook.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([0-9][0-9–, ]*) \|.*\| (.*) \|$", document, flags=re.M)
    cells = [
        number
        for numbers, _ in rows
        for part in numbers.split(", ")
        for number in range(int(part.split("–")[0]), int(part.split("–")[-1]) + 1)
    ]
    assert sorted(cells) == list(range(1, 21))
