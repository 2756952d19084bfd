"""The Dockerfile: base images, users, copied files, locked packages; no container engine is needed."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.compose.compose_files import (
    DOCKERFILE,
    ROOT,
    copied_files,
    filled_env,
    is_sent,
    lineage,
    run,
    services,
    stages,
)

SERVICES = services()
TARGETS = ("airflow", "emr", "init", "store")
FULL_VERSION = re.compile(r"^[a-z][a-z0-9./-]*:\d+\.\d+(\.\d+)?-[a-z][a-z-]*(@sha256:[0-9a-f]{64})?$")


def pins(name: str) -> dict[str, set[str]]:
    """Map each package of a lock to its pinned versions, which may differ among platforms."""
    versions: dict[str, set[str]] = {}
    for match in re.finditer(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.M):
        versions.setdefault(match[1].lower(), set()).add(match[2])
    return versions


@pytest.mark.slow
def test_dockerfile_passes_hadolint(tmp_path: Path) -> None:
    in_venv = Path(sys.executable).with_name("hadolint")
    hadolint = str(in_venv) if in_venv.exists() else shutil.which("hadolint")
    assert hadolint is not None, "hadolint is missing: run `make setup`"
    done = run(hadolint, DOCKERFILE)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = tmp_path / "Dockerfile"
    broken.write_text(DOCKERFILE.read_text(encoding="utf-8").replace('"openjdk-17-jre-headless=17.*"', "curl"))
    assert "DL3008" in run(hadolint, broken).stdout


def test_every_base_image_is_an_argument_pinned_to_a_full_version() -> None:
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M))
    assert arguments
    for stage in stages().values():
        base = re.fullmatch(r"\$\{(\w+)\}", stage.base)
        assert stage.base in stages() or (base is not None and base[1] in arguments), f"{stage.name}: {stage.base}"
    for name, service in SERVICES.items():
        if "build" in service:
            assert service["build"]["args"] == arguments, f"{name}: the defaults differ from the Dockerfile's"
            assert service["image"] == f"fruits-{service['build']['target']}:local"
        else:
            assert FULL_VERSION.match(service["image"]), f"{name}: {service['image']}"
    assert all(FULL_VERSION.match(image) for image in arguments.values()), arguments
    required = re.search(r'requires-python = ">=(3\.\d+),', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert required is not None
    assert filled_env()["PYTHON_IMAGE"].startswith(f"python:{required[1]}."), "not the project's Python"


def test_every_build_target_is_in_the_dockerfile_and_every_image_is_used() -> None:
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == set(TARGETS)
    assert targets <= set(stages())
    bases = {stage.base for stage in stages().values()}
    copied = {re.sub(r"--from=(\w+).*", r"\1", text) for stage in stages().values() for text in stage.all("COPY")}
    assert set(stages()) - targets <= bases | copied, "an unused stage"


def test_containers_do_not_run_as_root() -> None:
    created = " ".join(stages()["base"].all("RUN"))
    for target in TARGETS:
        users = [text for stage in lineage(target) for text in reversed(stage.all("USER"))]
        uid, _, gid = users[0].partition(":")
        assert int(uid) > 0, target
        assert int(gid) > 0, target
        assert f"useradd --uid {uid} " in created, target
        assert f"groupadd --gid {gid} " in created, target
        for service in SERVICES.values():
            if service.get("build", {}).get("target") == target:
                assert "user" not in service, target
                assert service["cap_drop"] == ["ALL"], target


def test_copied_files_exist_and_are_sent_to_the_builder() -> None:
    sources = [source for stage in stages().values() for source in copied_files(stage)]
    assert len(sources) >= 8
    for source in sources:
        path = ROOT / source
        assert path.exists(), source
        files = [path] if path.is_file() else sorted(path.rglob("*.py"))
        for file in files:
            assert is_sent(file.relative_to(ROOT).as_posix()), f"{file} is in .dockerignore"
    for private in (".env", ".git/config", ".venv/complete", ".local/x", "local/emr/__pycache__/x.pyc", "README.md"):
        assert not is_sent(private), private


def test_images_install_locked_and_hashed_versions_that_are_tested_here() -> None:
    tested = pins("requirements.txt")
    copied = {source for stage in stages().values() for source in copied_files(stage)}
    drivers = {"asyncpg", "psycopg2-binary"}  # only Airflow on PostgreSQL needs them
    for name in (*TARGETS, "uv"):
        lock = f"docker/{name}.txt"
        locked = pins(lock)
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert locked, lock
        assert not re.search(r"--(extra-)?index-url|--find-links|https?://", text), lock
        blocks = re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"^\s*#.*\n", "", text, flags=re.M))
        assert all("--hash=sha256:" in block for block in blocks if block.strip()), lock
        differing = {package for package, versions in locked.items() if not versions <= tested.get(package, set())}
        assert differing <= drivers, f"{lock} differs from the tested versions: run `make lock`"
        assert lock in copied


def test_each_image_has_only_the_heavy_packages_that_it_needs() -> None:
    airflow, emr, init = (set(pins(f"docker/{name}.txt")) for name in ("airflow", "emr", "init"))
    assert not {"tensorflow", "tensorflow-cpu", "keras", "pyspark", "moto"} & airflow
    assert not {"apache-airflow", "tensorflow", "tensorflow-cpu", "keras"} & emr
    assert {"psycopg2-binary", "asyncpg"} <= airflow
    assert {"pyspark", "moto", "ai-edge-litert"} <= emr
    assert {"apache-airflow", "keras", "ai-edge-litert"} <= init


@pytest.mark.slow
def test_install_script_is_valid_in_sh() -> None:
    assert run("sh", "-n", ROOT / "docker/install.sh").returncode == 0


def test_every_package_is_installed_from_a_lock() -> None:
    script = (ROOT / "docker/install.sh").read_text(encoding="utf-8")
    installs = [line for line in script.splitlines() if re.search(r"\bpip install\b", line)]
    assert len(installs) == 2
    assert all("--require-hashes" in line for line in installs)
    for stage in stages().values():
        for text in stage.all("RUN"):
            assert not re.search(r"\b(pip|uv|curl|wget)\b", text), f"{stage.name}: {text}"


SOURCES_OF_IMAGES = {
    "airflow": [
        "dags",
        "plugins",
        "include",
        *(f"spark_jobs/{name}.py" for name in ("args", "left_out", "records", "walk")),
    ],
    "emr": ["local/emr", "local/processes", "spark_jobs"],
    "init": ["include", "local/images", "spark_jobs/model/export"],
}
NOT_IN_THE_STEPS_IMAGE = {"tensorflow", "keras"}
"""Imported only by the export of the model, which the init image runs."""


def imported_packages(source: str) -> set[str]:
    """Return the top-level packages of others that a file or folder imports, at any place in its code."""
    path = ROOT / source
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files, source
    names = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"include", "local", "spark_jobs", "dags", "plugins", "__future__"}


@pytest.mark.slow
def test_each_image_has_the_packages_that_its_sources_import() -> None:
    owners = packages_distributions()
    for name, sources in SOURCES_OF_IMAGES.items():
        locked = set(pins(f"docker/{name}.txt"))
        for source in sources:
            for package in sorted(imported_packages(source) - (NOT_IN_THE_STEPS_IMAGE if name == "emr" else set())):
                # Several distributions own a namespace package such as `airflow`; the lock must have one of them.
                distributions = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(package, [package])}
                assert distributions & locked, f"{source} imports {package}, which docker/{name}.txt does not install"
