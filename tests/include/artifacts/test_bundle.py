"""The code bundle: its digest is the code's version."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from include.artifacts.bundle import BOOTSTRAP_FILE, ENTRYPOINTS, JOBS_ZIP, REQUIREMENTS_FILE, build_bundle
from include.cluster.steps import spark_step
from spark_jobs.args import FeaturizeArgs, PcaArgs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources in another folder, of another time, with what a workshop leaves lying about."""
    target = tmp_path / "elsewhere"
    shutil.copytree(ROOT / "spark_jobs", target / "spark_jobs", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "include" / "cluster").mkdir(parents=True)
    for name in (f"include/cluster/{BOOTSTRAP_FILE}", REQUIREMENTS_FILE):
        shutil.copyfile(ROOT / name, target / name)
    for path in target.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    (target / "spark_jobs" / "__pycache__").mkdir()
    (target / "spark_jobs" / "__pycache__" / "args.cpython-311.pyc").write_bytes(b"stale")
    return target


def test_same_sources_give_the_same_bytes_whenever_and_wherever(copy: Path) -> None:
    assert build_bundle() == build_bundle()
    assert build_bundle(copy) == build_bundle()


def test_zip_holds_every_module_of_the_jobs_under_their_package() -> None:
    with zipfile.ZipFile(io.BytesIO(build_bundle().files[JOBS_ZIP])) as archive:
        expected = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "spark_jobs").rglob("*.py"))
        assert archive.namelist() == expected
        assert "spark_jobs/__init__.py" in expected
        assert archive.read("spark_jobs/args.py") == (ROOT / "spark_jobs" / "args.py").read_bytes()


def test_cluster_can_import_the_jobs_from_the_zip_alone(tmp_path: Path) -> None:
    (tmp_path / JOBS_ZIP).write_bytes(build_bundle().files[JOBS_ZIP])
    code = "import spark_jobs.args as module; print(module.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(tmp_path / JOBS_ZIP)}, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert JOBS_ZIP in done.stdout


@pytest.mark.parametrize(
    "name",
    ["spark_jobs/args.py", "spark_jobs/entrypoints/pca.py", f"include/cluster/{BOOTSTRAP_FILE}", REQUIREMENTS_FILE],
)
def test_change_of_any_file_changes_the_digest(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
    assert build_bundle(copy).digest != build_bundle().digest


def test_new_and_renamed_modules_change_the_digest(copy: Path) -> None:
    original = build_bundle(copy).digest
    (copy / "spark_jobs" / "extra.py").touch()
    with_extra = build_bundle(copy).digest
    (copy / "spark_jobs" / "extra.py").rename(copy / "spark_jobs" / "other.py")
    assert len({original, with_extra, build_bundle(copy).digest}) == 3


@pytest.mark.parametrize(
    "name",
    [
        *(f"spark_jobs/entrypoints/{name}.py" for name in ENTRYPOINTS),
        f"include/cluster/{BOOTSTRAP_FILE}",
        REQUIREMENTS_FILE,
    ],
)
def test_missing_source_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=str(copy / name)):
        build_bundle(copy)


def test_missing_jobs_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/spark_jobs: deploy spark_jobs/"):
        build_bundle(tmp_path)


@pytest.mark.parametrize("arguments", [FeaturizeArgs("file:///i", "file:///r", "file:///m"), PcaArgs("file:///r")])
def test_every_file_that_a_step_names_is_in_the_bundle(arguments: FeaturizeArgs | PcaArgs) -> None:
    step = spark_step(arguments, slug="s", code="s3://b/code/d", time_limit_minutes=1)
    named = [item.removeprefix("s3://b/code/d/") for item in step["HadoopJarStep"]["Args"] if "/code/d/" in item]
    assert named == [JOBS_ZIP, f"{arguments.program}.py"]
    assert set(named) <= set(build_bundle().files)


def test_bootstrap_script_parses() -> None:
    script = build_bundle().files[BOOTSTRAP_FILE]
    subprocess.run(["bash", "-n"], input=script, check=True)
    done = subprocess.run(["bash", "-s"], input=script, capture_output=True, check=False)
    assert done.returncode != 0
    assert b"usage: bootstrap_node.sh s3://" in done.stderr
