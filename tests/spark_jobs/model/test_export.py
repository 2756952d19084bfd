"""The export's command: what it refuses, what it prints, and that it does nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from spark_jobs.args import MODEL_FILE
from spark_jobs.errors import JobError
from spark_jobs.model import mobilenet
from spark_jobs.model.export.models import find_model
from spark_jobs.model.export.pictures import make_pictures
from spark_jobs.model.export.weights import find_weights

REPOSITORY = Path(__file__).resolve().parents[3]
EXPORTS_IN_ONE_PROCESS = """
import sys
from spark_jobs.model.export.__main__ import main
sys.exit([main(["--weights", weights, "--output", sys.argv[1]]) for weights in sys.argv[2:]][-1])
"""
"""Several exports, in one process because TensorFlow starts slowly. The exit code is that of the last one."""


@dataclass(frozen=True)
class Exports:
    """The folder of models that a process wrote, and the process."""

    models: Path
    done: subprocess.CompletedProcess[str]


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        # TensorFlow keeps the memory that it frees. The numbers are the same, with fewer page faults.
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPU_ALLOCATOR_USE_BFC": "true"},
        capture_output=True,
        text=True,
        check=False,
    )


def run_export(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python("-m", "spark_jobs.model.export", *arguments)


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """One process exports the weights ``random:11``, then fails to export a file that is not weights."""
    folder = tmp_path_factory.mktemp("seeded")
    (folder / "wrong.h5").write_text("not weights")
    done = run_python("-c", EXPORTS_IN_ONE_PROCESS, f"{folder.as_uri()}/models", "random:11", f"{folder}/wrong.h5")
    return Exports(folder / "models", done)


@pytest.mark.slow
def test_the_help_names_the_kinds_of_weights() -> None:
    done = run_export("--help")
    assert done.returncode == 0
    assert "random:SEED" in done.stdout
    assert "imagenet" in done.stdout


@pytest.mark.parametrize("weights", ["random:", "random:x", "random:-1", "random:1.5", "random:1234567890"])
def test_a_seed_must_be_an_integer(weights: str) -> None:
    with pytest.raises(JobError, match=r"is not random:SEED"):
        find_weights(weights)


@pytest.mark.slow
def test_a_missing_weights_file_is_a_clear_error_and_the_last_line(tmp_path: Path) -> None:
    done = run_export("--weights", f"{tmp_path}/none.h5", "--output", tmp_path.as_uri())
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("spark_jobs.errors.JobError: there is no weights file")
    assert "none.h5" in last


def test_a_seed_is_its_weights_identity() -> None:
    assert find_weights("random:1") == find_weights("random:1")
    assert find_weights("random:1").sha256 != find_weights("random:2").sha256


def test_pictures_are_seeded() -> None:
    first, again, other = (make_pictures(np.random.default_rng(seed), 2) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert first.std(axis=0).mean() > 10


@pytest.mark.slow
def test_a_file_that_is_not_weights_is_a_clear_error(seeded: Exports) -> None:
    assert seeded.done.returncode == 1
    assert "wrong.h5 do not fit MobileNetV2" in seeded.done.stderr.splitlines()[-1]
    (record,) = (json.loads(line) for line in seeded.done.stdout.splitlines())
    assert [path.name for path in seeded.models.iterdir()] == [record["digest"][:16]], "a model without weights"


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
    found = find_weights(weights)
    assert find_model(model_folder.parent.as_uri(), found) is not None
    assert find_model(tmp_path.as_uri(), found) is None


@pytest.mark.slow
def test_random_weights_differ_between_pictures(seeded: Exports) -> None:
    (record,) = (json.loads(line) for line in seeded.done.stdout.splitlines())
    assert record["weights"]["seed"] == 11
    model = mobilenet.read(f"{seeded.models.as_uri()}/{record['digest'][:16]}")
    pictures = make_pictures(np.random.default_rng(99), 24)
    extract = mobilenet.Extractor(model.flatbuffer)
    deviation = np.stack([extract(picture) for picture in pictures]).std(axis=0)
    assert np.quantile(deviation, 0.05) >= 0.1
    assert np.quantile(deviation, 0.95) <= 1


@pytest.mark.soak
def test_random_weights_are_the_same_for_the_same_seed(seeded: Exports, tmp_path: Path) -> None:
    done = run_export("--weights", "random:11", "--output", tmp_path.as_uri())
    assert done.returncode == 0, done.stderr
    assert done.stdout == seeded.done.stdout
