"""A lake with one image and a model, and the environment of the local profile."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from include.lake.layout import Lake
from include.lake.models import name_published_model
from include.settings.parameters import RunParams
from spark_jobs.args import MODEL_FILE, MODEL_RECORD_FILE
from tests.include.run_records import MODEL_DIGEST, run_record


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "lake é#%20+"
    (root / "data" / "Kiwi").mkdir(parents=True)
    (root / "data" / "Kiwi" / "1.JPG").touch()
    folder = root / "models" / MODEL_DIGEST[:16]
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(b"TFL3")
    (folder / MODEL_RECORD_FILE).write_text(json.dumps({"digest": MODEL_DIGEST, "weights": {"source": "file"}}))
    name_published_model(Lake(f"file://{root}"), MODEL_DIGEST, None)
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    monkeypatch.setenv("FRUITS_LAKE", f"file://{root}")
    monkeypatch.setenv("FRUITS_AWS_CONN_ID", "none")
    return root


@pytest.fixture
def opened(lake: Path) -> Any:
    """Return a function that returns the record of a run on this lake, with some parameters, as it leaves XCom."""

    def record(**params: Any) -> dict[str, Any]:
        changed = asdict(RunParams()) | {"core_instance_types": ["c7g.2xlarge"]} | params
        root = f"file://{lake}"
        return json.loads(json.dumps(run_record(lake=root, images=f"{root}/data", params=changed)))

    return record
