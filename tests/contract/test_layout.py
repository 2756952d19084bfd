"""The rooms of the house: who may import whom, and that no room is forgotten in the rules."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"tensorflow", "keras", "pyspark", "numpy", "pandas", "sklearn", "ai_edge_litert", "pyarrow"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def rules(project: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [rule for rule in project["tool"]["importlinter"]["contracts"] if rule["type"] == kind]


def modules(folder: str) -> list[str]:
    return sorted(f"{folder}.{path.stem}" for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")


def module_level_imports(path: Path) -> set[str]:
    """Packages that a module imports when it is imported itself: not those inside functions, nor for types only."""
    found: set[str] = set()
    nodes: list[ast.AST] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return found


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", python_files("dags", "include", "plugins"), ids=lambda path: path.name)
def test_airflow_side_imports_nothing_heavy_at_module_level(path: Path) -> None:
    found = sorted(module_level_imports(path) & HEAVY)
    assert not found, f"{path.relative_to(ROOT)}: import {', '.join(found)} inside the function that needs it"


@pytest.mark.parametrize("path", python_files("spark_jobs"), ids=lambda path: path.name)
def test_jobs_know_nothing_of_airflow_and_import_tensorflow_nowhere_by_themselves(path: Path) -> None:
    found = module_level_imports(path) & {
        "airflow",
        "include",
        "dags",
        "plugins",
        "boto3",
        "botocore",
        "tensorflow",
        "keras",
    }
    assert not found, f"{path.relative_to(ROOT)} imports {', '.join(sorted(found))}"


def test_tensorflow_is_imported_in_one_place_only() -> None:
    importing = set()
    for path in python_files("dags", "include", "plugins", "spark_jobs"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.partition(".")[0] for name in names} & {"tensorflow", "keras"}:
                importing.add(path.relative_to(ROOT).as_posix())
    assert importing == {"spark_jobs/export.py"}


def test_only_door_between_the_worlds_is_the_arguments() -> None:
    for path in python_files("dags", "include", "plugins"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "spark_jobs":
                taken = {f"{node.module}.{alias.name}" for alias in node.names}
                assert node.module == "spark_jobs.args" or taken == {"spark_jobs.args"}, (
                    f"{path.relative_to(ROOT)} imports {', '.join(sorted(taken))}"
                )
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("spark_jobs") for alias in node.names), path


def test_environment_has_one_reader_on_the_production_side() -> None:
    """Others take it as an argument; where the weights are is asked by the commands of a person only."""
    readers = set()
    for path in sorted((ROOT / "include").glob("*.py")) + python_files("dags", "plugins"):
        text = ast.unparse(ast.parse(path.read_text(encoding="utf-8")))
        if "os.environ" in text or "getenv" in text:
            readers.add(path.name)
    assert readers == {"settings.py", "weights.py"}


def test_import_rules_hold() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def test_every_module_has_its_floor(project: dict[str, Any]) -> None:
    [layers] = rules(project, "layers")
    placed = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    missing = sorted(set(modules("include")) - placed)
    assert not missing, f"say in pyproject.toml on which floor {', '.join(missing)} is"
    assert not sorted(name for name in placed if not (ROOT / (name.replace(".", "/") + ".py")).exists())


def test_every_production_module_is_kept_from_the_local_ones(project: dict[str, Any]) -> None:
    [rule] = [rule for rule in rules(project, "forbidden") if "include.tasks" in rule["source_modules"]]
    missing = sorted(set(modules("include")) - set(rule["source_modules"]))
    assert not missing, f"add {', '.join(missing)} to the rule {rule['name']!r} in pyproject.toml"


def test_entry_points_of_the_jobs_are_thin() -> None:
    for path in (ROOT / "spark_jobs" / "entrypoints").glob("[a-z]*.py"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert len(lines) <= 15, f"{path.name}: what is not wiring belongs into a module that is tested"
