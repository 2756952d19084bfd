"""The folder for MWAA is complete, and has the code of this repository."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from include.artifacts.bundle import build_bundle
from include.deployment import mwaa
from include.deployment.mwaa import (
    AIRFLOW_VERSION,
    PINNED_BY_MWAA,
    MwaaError,
    build,
    lock_without_hashes,
    main,
    read_environment_file,
)
from include.settings.deployment import read_settings

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = {
    "FRUITS_LAKE": "s3://fruit-features-123456789012",
    "FRUITS_OWNER": "the fruit team's",
    "FRUITS_SCHEDULE": "0 5 * * 1",
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("mwaa") / "out"
    build(target, SETTINGS)
    return target


@pytest.fixture(scope="module")
def plugins(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that MWAA unpacks plugins.zip to."""
    folder = tmp_path_factory.mktemp("plugins")
    with zipfile.ZipFile(built / "plugins.zip") as archive:
        archive.extractall(folder)
    return folder


def run_python(code: str, path: list[Path], home: Path, **environ: str) -> Any:
    """Run code in a process with these folders on ``sys.path``, and return the JSON that it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "FRUITS_", "PYTHON"))}
    kept |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "PYTHONPATH": os.pathsep.join(str(item) for item in path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    kept.pop("AWS_ENDPOINT_URL", None)  # refused in production
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=kept | environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_folder_has_the_files_that_mwaa_expects(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {"dags", "plugins.zip", "requirements.txt", "startup.sh"}
    assert {path.name for path in (built / "dags").iterdir()} == {
        *(path.name for path in (ROOT / "dags").glob("*.py")),
        *("include", "spark_jobs", "requirements-cluster.txt", "constraints.txt", ".airflowignore"),
    }


def test_code_for_development_only_is_left_out(built: Path) -> None:
    names = [path.relative_to(built).as_posix() for path in built.rglob("*")]
    with zipfile.ZipFile(built / "plugins.zip") as archive:
        names += archive.namelist()
    assert any("include" in Path(name).parts for name in names)
    excluded = {"local", "tests", "benchmarks", "scripts", "__pycache__"}
    assert not [name for name in names if excluded & set(Path(name).parts)]


@pytest.mark.slow
def test_dags_of_the_folder_alone_parse_and_bundle_the_same_code(built: Path, tmp_path: Path) -> None:
    dags = built / "dags"
    code = f"""
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag({str(dags)!r})
import include.artifacts.bundle
print(json.dumps({{"errors": bag.import_errors, "dags": sorted(bag.dag_ids),
                   "files": sorted(bag.file_last_changed), "include": include.artifacts.bundle.__file__,
                   "digest": include.artifacts.bundle.build_bundle().digest}}))
"""
    result = run_python(code, [dags], tmp_path, AIRFLOW__CORE__DAGS_FOLDER=str(dags))
    assert result["errors"] == {}
    assert {"fruit_features", "fruit_reaper"} <= set(result["dags"])
    assert {Path(name).parent for name in result["files"]} == {dags}, "code beside the DAGs is not parsed as one"
    assert Path(result["include"]).is_relative_to(dags)
    assert result["digest"] == build_bundle().digest


@pytest.mark.slow
def test_report_page_works_without_the_dags(plugins: Path, tmp_path: Path) -> None:
    code = """
import json
from airflow import plugins_manager
apps = plugins_manager.get_fastapi_plugins()[0]
found, errors = plugins_manager._get_plugins()
import include.pages.app
print(json.dumps({"errors": errors, "apps": [app["name"] for app in apps], "include": include.pages.app.__file__}))
"""
    result = run_python(code, [], tmp_path, AIRFLOW__CORE__PLUGINS_FOLDER=str(plugins))
    assert result["errors"] == {}
    assert "Fruit features" in result["apps"]
    assert Path(result["include"]).is_relative_to(plugins / mwaa.PLUGIN_CODE)


@pytest.mark.slow
def test_code_of_the_dags_takes_precedence_over_the_plugins(built: Path, plugins: Path, tmp_path: Path) -> None:
    """MWAA reads new DAGs within a minute, and plugins.zip only when the environment is updated."""
    code = """
import json
from airflow import plugins_manager
plugins_manager.get_fastapi_plugins()
import include.pages.app
print(json.dumps(include.pages.app.__file__))
"""
    result = run_python(code, [built / "dags"], tmp_path, AIRFLOW__CORE__PLUGINS_FOLDER=str(plugins))
    assert Path(result).is_relative_to(built / "dags")


def test_two_builds_are_the_same(built: Path, tmp_path: Path) -> None:
    build(tmp_path / "again", SETTINGS)
    for path in built.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(built)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_startup_script_sets_the_settings_as_a_shell_reads_them(built: Path) -> None:
    command = ["sh", "-c", f". {built / 'startup.sh'}; env"]
    done = subprocess.run(command, env={}, capture_output=True, text=True, check=True)
    environ = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("FRUITS_"))
    assert environ == SETTINGS
    assert read_settings(environ).owner == "the fruit team's"


def test_requirements_keep_mwaa_s_own_airflow(built: Path) -> None:
    requirements = (built / "requirements.txt").read_text().splitlines()
    assert requirements[0] == '--constraint "/usr/local/airflow/dags/constraints.txt"'
    constraints = (built / "dags" / "constraints.txt").read_text().splitlines()
    airflow = [line for line in constraints if re.match(r"apache-airflow(-core|-task-sdk)?==", line)]
    assert airflow == [f"apache-airflow=={AIRFLOW_VERSION}"]
    assert not [line for line in constraints if "--hash" in line or "[" in line], "pip refuses extras in constraints"
    wanted = [line for line in (ROOT / "requirements-airflow.in").read_text().splitlines() if "==" in line]
    for line in wanted:
        if not line.startswith("apache-airflow=="):
            assert line in requirements, f"{line} of requirements-airflow.in"


def test_constraints_are_the_lock(built: Path) -> None:
    from packaging.requirements import Requirement

    lock = (ROOT / "requirements-airflow.txt").read_text(encoding="utf-8")
    pinned = {match.lower() for match in re.findall(r"^([a-zA-Z0-9._-]+)(?:\[[^\]]*\])?==", lock, flags=re.M)}
    found = [Requirement(line) for line in (built / "dags" / "constraints.txt").read_text().splitlines()]
    of_mwaa = {"apache-airflow-core", "apache-airflow-task-sdk"} | PINNED_BY_MWAA
    assert {item.name.lower() for item in found} == pinned - of_mwaa
    assert "sqlalchemy" in pinned & of_mwaa, "with another version than MWAA's, MWAA would install nothing"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"FRUITS_LAKE": "s3://b", "FRUITS_REGION": "us-east-1"}, "FRUITS_REGION='us-east-1'"),
        ({"FRUITS_LAEK": "s3://b"}, "FRUITS_LAEK is not a setting"),
        ({"FRUITS_LAKE": "file:///lake"}, "FRUITS_LAKE='file:///lake'"),
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, settings: dict[str, str], expected: str) -> None:
    with pytest.raises(MwaaError, match=re.escape(expected)):
        build(tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FRUITS_LAKE=s3://b\nLAKE=s3://b\n", "line 2: 'LAKE=s3://b'"),
        ("FRUITS_LAKE\n", "line 1"),
        ("export FRUITS_LAKE=s3://b\n", "line 1"),
    ],
)
def test_line_that_is_not_a_setting_is_named(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "settings.env"
    path.write_text(text)
    with pytest.raises(MwaaError, match=expected):
        read_environment_file(path)


def test_comments_and_empty_lines_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "settings.env"
    path.write_text("# ForAirflowPolicy=arn\n\nFRUITS_OWNER=a=b\n")
    assert read_environment_file(path) == {"FRUITS_OWNER": "a=b"}


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_unreadable_settings_file_is_reported_without_a_traceback(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "settings.env"
    if content is not None:
        path.write_bytes(content)
    assert main(["--target", str(tmp_path / "out"), "--settings", str(path)]) == 1
    assert f"SETTINGS={path} cannot be read" in caplog.text


def test_folder_with_other_files_is_not_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    assert main(["--target", str(tmp_path)]) == 1
    assert "does not contain an earlier build" in caplog.text
    assert (tmp_path / "photo.jpg").exists()


def test_earlier_build_is_replaced(tmp_path: Path) -> None:
    assert main(["--target", str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "dags" / "old.py").write_text("")
    assert main(["--target", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "dags" / "old.py").exists()


def test_lock_without_a_package_is_refused() -> None:
    with pytest.raises(MwaaError, match="pins no package"):
        lock_without_hashes("# nothing\n")


def test_missing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements-airflow.txt").write_text("pyarrow==1\n")
    with pytest.raises(MwaaError, match="include contains no files"):
        build(tmp_path / "out", {}, tmp_path)
