"""The code that Airflow imports, on Python 3.12 (the version of Amazon MWAA) with the packages of a production Airflow.

``tests/python312/make_environment.sh`` creates the environment; without it, these tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".local" / "python312" / "bin" / "python"
AIRFLOW_SIDE = [
    *sorted(path for folder in ("dags", "plugins", "include") for path in (ROOT / folder).rglob("*.py")),
    *(ROOT / "spark_jobs" / name for name in ("args.py", "records.py")),
]
"""The files that Airflow imports: its packages, and the modules of the jobs that these may import."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .local/python312: run tests/python312/make_environment.sh"),
]


def run_in_312(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_", "FRUITS_"))}
    environ |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [PYTHON, *options, "-c", code], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_every_file_of_the_airflow_side_compiles_without_a_warning(tmp_path: Path) -> None:
    """Python 3.12 warns about invalid escape sequences that 3.11 accepts."""
    assert len(AIRFLOW_SIDE) > 40
    names = json.dumps([str(path) for path in AIRFLOW_SIDE])
    code = f"""
import json, pathlib, sys
assert sys.version_info[:2] == (3, 12), sys.version
for name in json.loads({names!r}):
    compile(pathlib.Path(name).read_text(encoding="utf-8"), name, "exec")
"""
    done = run_in_312(code, tmp_path, "-W", "error")
    assert done.returncode == 0, done.stderr


def test_dags_and_modules_of_include_load(tmp_path: Path) -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in AIRFLOW_SIDE]
    imported = [name for name in modules if name.startswith("include.") and not name.endswith("__init__")]
    code = f"""
import importlib, warnings
from airflow.dag_processing.dagbag import DagBag
with warnings.catch_warnings():
    warnings.simplefilter("error", DeprecationWarning)
    warnings.filterwarnings("default", module="(?!include)")
    for name in {imported!r}:
        importlib.import_module(name)
bag = DagBag({str(ROOT / "dags")!r})
assert not bag.import_errors, bag.import_errors
assert sorted(bag.dags) == ["fruit_features", "fruit_forget", "fruit_reaper"], sorted(bag.dags)
for dag in bag.dags.values():
    dag.params.validate()
from include.artifacts.bundle import build_bundle
print(build_bundle().digest)
"""
    done = run_in_312(code, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    here = subprocess.run(
        [sys.executable, "-c", "from include.artifacts.bundle import build_bundle; print(build_bundle().digest)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == here.stdout.strip(), "both Pythons bundle the same code"
