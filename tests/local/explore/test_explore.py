"""The command that opens the published features in Embedding Atlas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from local.airflow.home import RunError
from local.explore.__main__ import REQUIREMENTS, build_command, find_features, main


def test_the_files_of_the_published_state_are_opened(tmp_path: Path) -> None:
    (tmp_path / "current.json").write_text(json.dumps({"features": ["segments/a/features.parquet"]}))
    files = find_features(f"file://{tmp_path}")
    assert files == [tmp_path / "segments" / "a" / "features.parquet"]
    command = build_command(Path("/env/bin/embedding-atlas"), files)
    assert command[:4] == ["/env/bin/embedding-atlas", str(files[0]), "--vector", "features"]
    assert command[-2:] == ["--host", "127.0.0.1"]


def test_a_lake_without_a_state_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="has no published state"):
        find_features(f"file://{tmp_path}")
    assert main([f"--lake={tmp_path}"]) == 1
    assert f"{tmp_path} has no published state" in capsys.readouterr().err


def test_the_environment_is_locked_and_without_the_packages_that_compute_vectors() -> None:
    text = REQUIREMENTS.read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    packages = {block.split("==")[0].strip(): block for block in blocks if block.strip()}
    assert "embedding-atlas" in packages
    assert [name for name, block in packages.items() if "--hash=sha256:" not in block] == []
    for name in ("torch", "transformers", "litellm"):
        assert name not in packages or "sys_platform == 'never'" in packages[name]
