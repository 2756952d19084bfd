"""docs/dags.md is what the DAGs say of themselves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from include.settings.deployment import RunParams, Settings, environment_name

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "dags.md"


def test_document_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/write_dag_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_document_names_every_setting_and_every_parameter() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for item in fields(Settings):
        assert f"`{environment_name(item.name)}`" in text
    for item in fields(RunParams):
        assert f"| `{item.name}` |" in text
