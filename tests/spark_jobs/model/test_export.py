"""The export's command: what it refuses, what it prints, and that it does nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spark_jobs.args import MODEL_FILE
from spark_jobs.errors import JobError
from spark_jobs.model import export, mobilenet

REPOSITORY = Path(__file__).resolve().parents[3]


def run_export(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spark_jobs.model.export", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_help_names_the_kinds_of_weights() -> None:
    done = run_export("--help")
    assert done.returncode == 0
    assert "random:SEED" in done.stdout
    assert "imagenet" in done.stdout


@pytest.mark.parametrize("weights", ["random:", "random:x", "random:-1", "random:1.5", "random:1234567890"])
def test_a_seed_must_be_an_integer(weights: str) -> None:
    with pytest.raises(JobError, match=r"is not random:SEED"):
        export.find_weights(weights)


@pytest.mark.slow
def test_a_missing_weights_file_is_a_clear_error_and_the_last_line(tmp_path: Path) -> None:
    done = run_export("--weights", f"{tmp_path}/none.h5", "--output", tmp_path.as_uri())
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("spark_jobs.errors.JobError: there is no weights file")
    assert "none.h5" in last


def test_a_seed_is_its_weights_identity() -> None:
    assert export.find_weights("random:1") == export.find_weights("random:1")
    assert export.find_weights("random:1").sha256 != export.find_weights("random:2").sha256


def test_pictures_are_seeded() -> None:
    first, again, other = (export.make_pictures(np.random.default_rng(seed), 2) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first.std(axis=0).mean() > 10


@pytest.mark.slow
def test_a_file_that_is_not_weights_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "wrong.h5").write_text("not weights")
    done = run_export("--weights", f"{tmp_path}/wrong.h5", "--output", f"{tmp_path.as_uri()}/models")
    assert done.returncode == 1
    assert "wrong.h5 do not fit MobileNetV2" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_the_same_weights_are_not_exported_twice(model_folder: Path, weights: str) -> None:
    before = (model_folder / MODEL_FILE).stat()
    done = run_export("--weights", weights, "--output", model_folder.parent.as_uri())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((model_folder / "model.json").read_text())
    assert (model_folder / MODEL_FILE).stat().st_mtime_ns == before.st_mtime_ns
    assert "is there already" in done.stderr
    assert [path.name for path in model_folder.parent.iterdir() if path.is_dir()] == [model_folder.name]


@pytest.mark.slow
def test_a_damaged_model_is_passed_over(model_folder: Path, weights: str, tmp_path: Path) -> None:
    damaged = tmp_path / model_folder.name
    damaged.mkdir()
    (damaged / "model.json").write_bytes((model_folder / "model.json").read_bytes())
    (damaged / MODEL_FILE).write_bytes((model_folder / MODEL_FILE).read_bytes()[:-1])
    found = export.find_weights(weights)
    assert export.find_model(model_folder.parent.as_uri(), found) is not None
    assert export.find_model(tmp_path.as_uri(), found) is None


@pytest.mark.slow
def test_random_weights_are_the_same_for_the_same_seed_and_differ_between_pictures(tmp_path: Path) -> None:
    records = []
    for folder in ("first", "second"):
        done = run_export("--weights", "random:11", "--output", f"{tmp_path.as_uri()}/{folder}")
        assert done.returncode == 0, done.stderr
        records.append(json.loads(done.stdout.splitlines()[-1]))
    assert records[0] == records[1]
    assert len(done.stdout.splitlines()) == 1
    assert records[0]["weights"]["seed"] == 11
    model = mobilenet.read(f"{tmp_path.as_uri()}/first/{records[0]['digest'][:16]}")
    pictures = export.make_pictures(np.random.default_rng(99), 24)
    extract = mobilenet.Extractor(model.flatbuffer)
    deviation = np.stack([extract(picture) for picture in pictures]).std(axis=0)
    assert np.quantile(deviation, 0.05) >= 0.1
    assert np.quantile(deviation, 0.95) <= 1
