"""The code bundle: its digest is the version of the code."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from include.artifacts.bundle import BOOTSTRAP_FILE, ENTRYPOINTS, JOBS_ZIP, PROJECT, REQUIREMENTS_FILE, build_bundle
from include.cluster.steps import spark_step
from spark_jobs.args import FeaturizeArgs, PcaArgs


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources with other file times and modes, and with a stale bytecode cache."""
    target = tmp_path / "elsewhere"
    shutil.copytree(PROJECT / "spark_jobs", target / "spark_jobs", ignore=shutil.ignore_patterns("__pycache__"))
    (target / "include" / "cluster").mkdir(parents=True)
    for name in (f"include/cluster/{BOOTSTRAP_FILE}", REQUIREMENTS_FILE):
        shutil.copyfile(PROJECT / name, target / name)
    for path in target.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    (target / "spark_jobs" / "__pycache__").mkdir()
    (target / "spark_jobs" / "__pycache__" / "args.cpython-311.pyc").write_bytes(b"stale")
    return target


def test_same_sources_give_the_same_bytes(copy: Path) -> None:
    assert build_bundle() == build_bundle()
    assert build_bundle(copy) == build_bundle()


def test_another_compression_does_not_change_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds of zlib compress differently; the nodes of Airflow may have different ones."""
    expected = build_bundle()
    monkeypatch.setattr(zipfile, "ZIP_DEFLATED", zipfile.ZIP_STORED)
    stored = build_bundle()
    assert stored.files[JOBS_ZIP] != expected.files[JOBS_ZIP]
    assert stored.digest == expected.digest


def test_zip_holds_every_module_of_the_jobs_under_their_package() -> None:
    with zipfile.ZipFile(io.BytesIO(build_bundle().files[JOBS_ZIP])) as archive:
        expected = sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "spark_jobs").rglob("*.py"))
        assert archive.namelist() == expected
        assert "spark_jobs/__init__.py" in expected
        assert archive.read("spark_jobs/args.py") == (PROJECT / "spark_jobs" / "args.py").read_bytes()


@pytest.mark.slow
def test_cluster_can_import_the_jobs_from_the_zip_alone(tmp_path: Path) -> None:
    (tmp_path / JOBS_ZIP).write_bytes(build_bundle().files[JOBS_ZIP])
    code = "import spark_jobs.sources as module; print(module.__file__, module.sources_digest())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(tmp_path / JOBS_ZIP)}, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert JOBS_ZIP in done.stdout
    assert done.stdout.split()[-1] == build_bundle().jobs, "a job reports the digest that Airflow has planned with"


def test_each_changed_added_or_renamed_file_changes_the_digest(copy: Path) -> None:
    digests = [build_bundle(copy).digest]
    for name in ("spark_jobs/args.py", "spark_jobs/entrypoints/pca.py", f"include/cluster/{BOOTSTRAP_FILE}"):
        (copy / name).write_bytes((copy / name).read_bytes() + b"\n")
        digests.append(build_bundle(copy).digest)
    (copy / REQUIREMENTS_FILE).write_bytes(b"numpy\n")
    digests.append(build_bundle(copy).digest)
    (copy / "spark_jobs" / "extra.py").touch()
    digests.append(build_bundle(copy).digest)
    (copy / "spark_jobs" / "extra.py").rename(copy / "spark_jobs" / "other.py")
    digests.append(build_bundle(copy).digest)
    assert len(set(digests)) == len(digests)


def test_missing_source_is_named(copy: Path, tmp_path: Path) -> None:
    entrypoints = [f"spark_jobs/entrypoints/{name}.py" for name in ENTRYPOINTS]
    for name in (*entrypoints, f"include/cluster/{BOOTSTRAP_FILE}", REQUIREMENTS_FILE):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        with pytest.raises(FileNotFoundError, match=str(copy / name)):
            build_bundle(copy)
        (copy / name).write_bytes(content)
    with pytest.raises(FileNotFoundError, match=rf"{tmp_path}/spark_jobs: deploy spark_jobs/"):
        build_bundle(tmp_path)


def test_every_file_that_a_step_names_is_in_the_bundle() -> None:
    for arguments in (FeaturizeArgs("file:///i", "file:///r", "file:///m"), PcaArgs("file:///r")):
        step = spark_step(arguments, slug="s", code="s3://b/code/d", time_limit_minutes=1)
        named = [item.removeprefix("s3://b/code/d/") for item in step["HadoopJarStep"]["Args"] if "/code/d/" in item]
        assert named == [JOBS_ZIP, f"{arguments.program}.py"]
        assert set(named) <= set(build_bundle().files)


@pytest.mark.slow
def test_bootstrap_script_parses_and_explains_its_arguments() -> None:
    script = build_bundle().files[BOOTSTRAP_FILE]
    done = subprocess.run(["bash", "-s"], input=script, capture_output=True, check=False)
    assert done.returncode != 0
    assert b"usage: bootstrap_node.sh s3://" in done.stderr
