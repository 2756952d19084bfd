"""Which model a run uses, and which it refuses."""

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


def test_published_model_is_used(lake: Lake) -> None:
    assert find_model(lake, LOCAL) == {
        "digest": FIRST,
        "weights": {"source": "file"},
        "uri": lake.model(FIRST[:16]),
    }


def test_publishing_another_model_changes_what_runs_use(lake: Lake) -> None:
    name_published_model(lake, SECOND, None)
    assert find_model(lake, LOCAL)["digest"] == SECOND


def test_model_that_is_set_wins_over_the_published_one(lake: Lake) -> None:
    assert find_model(lake, replace(LOCAL, model=SECOND[:16]))["digest"] == SECOND


def test_missing_model_says_how_to_publish_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"no model is published .*`make publish ROOT=file://{tmp_path}`"):
        find_model(Lake(f"file://{tmp_path}"), LOCAL)


@pytest.mark.parametrize("name", [MODEL_FILE, MODEL_RECORD_FILE])
def test_half_a_model_is_none(lake: Lake, tmp_path: Path, name: str) -> None:
    (tmp_path / "models" / FIRST[:16] / name).unlink()
    with pytest.raises(ModelError, match=r"no model at .*make publish ROOT="):
        find_model(lake, LOCAL)


def test_model_that_is_set_and_missing_is_named(lake: Lake) -> None:
    with pytest.raises(ModelError, match=r"models/feedface: .*correct FRUITS_MODEL='feedface'"):
        find_model(lake, replace(LOCAL, model="feedface"))


def test_production_refuses_random_weights_published_or_set(tmp_path: Path) -> None:
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
