"""docs/dags.md is generated from the DAGs and the settings, and is up to date."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from include.settings.deployment import Settings, environment_name
from include.settings.parameters import RunParams

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "dags.md"


@pytest.mark.slow
def test_document_is_up_to_date() -> None:
    command = [sys.executable, "scripts/write_dag_docs.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_document_names_every_setting_and_every_parameter() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for item in fields(Settings):
        assert f"`{environment_name(item.name)}`" in text
    for item in fields(RunParams):
        assert f"| `{item.name}` |" in text
