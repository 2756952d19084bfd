"""The model that a run uses, and models that it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from include.lake.layout import Lake
from include.lake.models import ModelError, find_model, name_published_model
from include.settings.deployment import Settings
from spark_jobs.args import MODEL_FILE, MODEL_RECORD_FILE

LOCAL = Settings(profile="local", aws_conn_id=None)
AWS = Settings(aws_conn_id=None)
FIRST, SECOND = "1" * 64, "2" * 64


def put_model(lake: Lake, digest: str, source: str = "file") -> None:
    folder = Path(lake.model(digest[:16]).removeprefix("file://"))
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(b"TFL3")
    (folder / MODEL_RECORD_FILE).write_text(json.dumps({"digest": digest, "weights": {"source": source}}))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(f"file://{tmp_path}")
    for digest in (FIRST, SECOND):
        put_model(found, digest)
    name_published_model(found, FIRST, None)
    return found


def test_a_run_uses_the_published_model_unless_a_setting_names_another(lake: Lake) -> None:
    expected = {"digest": FIRST, "weights": {"source": "file"}, "uri": lake.model(FIRST[:16])}
    assert find_model(lake, LOCAL) == expected
    assert find_model(lake, replace(LOCAL, model=SECOND[:16]))["digest"] == SECOND
    name_published_model(lake, SECOND, None)
    assert find_model(lake, LOCAL)["digest"] == SECOND


def test_missing_model_says_how_to_publish_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"no model is published .*`make publish ROOT=file://{tmp_path}`"):
        find_model(Lake(f"file://{tmp_path}"), LOCAL)


def test_incomplete_or_missing_model_is_named(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"models/feedface: .*correct FRUITS_MODEL='feedface'"):
        find_model(lake, replace(LOCAL, model="feedface"))
    for name, digest in [(MODEL_FILE, FIRST), (MODEL_RECORD_FILE, SECOND)]:
        (tmp_path / "models" / digest[:16] / name).unlink()
        name_published_model(lake, digest, None)
        with pytest.raises(ModelError, match=r"no model at .*make publish ROOT="):
            find_model(lake, LOCAL)


def test_production_refuses_random_weights_whether_published_or_set(tmp_path: Path) -> None:
    lake = Lake(f"file://{tmp_path}")
    put_model(lake, FIRST, source="random")
    name_published_model(lake, FIRST, None)
    for settings in (AWS, replace(AWS, model=FIRST[:16])):
        with pytest.raises(ModelError, match=r"random weights.*make publish"):
            find_model(lake, settings)
    assert find_model(lake, LOCAL)["weights"]["source"] == "random"


def test_damaged_record_is_named(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "models" / "current.json").write_text("{")
    with pytest.raises(ValueError, match=r"current\.json is not JSON .*make publish"):
        find_model(lake, LOCAL)
