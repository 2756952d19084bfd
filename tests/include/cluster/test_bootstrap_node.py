"""The bootstrap action, run as a node runs it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from include.artifacts.bundle import PROJECT
from include.artifacts.wheelhouse import ARCHITECTURES
from include.artifacts.wheels import check_wheels, read_requirements
from tests.include.nodes import HOUSE, MACHINE, Node, needs_wheelhouse, program
from tests.include.wheel_files import make_lock, make_wheel

MODULES = ("ai_edge_litert", "numpy", "obstore", "pandas", "PIL", "pyarrow")


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, quick=True)


def stock(node: Node, *submodules: str) -> Node:
    """Fill the node's bucket with stand-ins for the packages; they have these submodules."""
    wheels = [make_wheel(node.wheels, f"{name}-1.0-py3-none-any.whl", modules=submodules) for name in MODULES]
    strenum = make_wheel(node.wheels, "backports_strenum-1.3.1-py3-none-any.whl", python="<3.11")
    entries = {f"{name}==1.0": [wheel] for name, wheel in zip(MODULES, wheels, strict=True)}
    entries["backports-strenum==1.3.1"] = [strenum]
    (node.bucket / "code" / "requirements-cluster.txt").write_text(make_lock(entries))
    return node


@pytest.fixture
def stocked(node: Node) -> Node:
    return stock(node)


@pytest.mark.slow
def test_node_installs_packages_from_the_bucket_only(tmp_path: Path) -> None:
    node = stock(Node(tmp_path), "interpreter.py", "Image.py", "parquet.py")
    done = node.bootstrap(BROKEN="2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fatal error: SlowDown") == 2, "transient errors of S3 are retried"
    assert f"7 packages for {MACHINE}" in done.stdout
    listed = subprocess.run(
        [str(node.python), "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    installed = {item["name"].lower().replace("_", "-") for item in json.loads(listed.stdout)}
    ours = {name.lower().replace("_", "-") for name in MODULES} | {"backports-strenum"}
    assert ours <= installed <= ours | {"pip", "setuptools"}
    commands = (tmp_path / "bucket.sudo").read_text()
    for option in ("--no-index", "--require-hashes", "--only-binary :all:", "--isolated"):
        assert option in commands
    assert not list(tmp_path.glob("tmp.*")), "temporary files are removed"


@pytest.mark.slow
def test_package_that_cannot_be_imported_fails_the_bootstrap(stocked: Node) -> None:
    done = stocked.bootstrap()
    assert done.returncode == 1
    assert "cannot be imported on this node" in done.stderr
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("content", "reason"), [(None, "obstore==1.0"), ("evil", "DO NOT MATCH THE HASHES")])
def test_missing_wheel_and_wheel_with_a_wrong_hash_fail_the_bootstrap(
    stocked: Node, content: str | None, reason: str
) -> None:
    next(stocked.wheels.glob("obstore-*")).unlink()
    if content is not None:
        make_wheel(stocked.wheels, "obstore-1.0-py3-none-any.whl", content)
    done = stocked.bootstrap()
    assert done.returncode == 1
    assert reason in done.stderr
    assert "cannot be installed from s3://bucket/wheels/digest" in done.stderr


def test_missing_requirements_are_reported_after_five_attempts(node: Node) -> None:
    done = node.bootstrap()
    assert done.returncode == 1
    assert "cannot copy s3://bucket/code/requirements-cluster.txt" in done.stderr
    assert "s3:GetObject" in done.stderr
    assert len((node.bucket.parent / "bucket.log").read_text().splitlines()) == 5


def test_wheelhouse_without_wheels_for_the_node_is_reported(stocked: Node) -> None:
    shutil.rmtree(stocked.wheels)
    done = stocked.bootstrap()
    assert done.returncode == 1
    assert f"no wheels at s3://bucket/wheels/digest/{MACHINE}: run make publish ROOT=" in done.stderr


def test_node_without_python_3_11_is_reported(stocked: Node) -> None:
    (stocked.bin / "python3.11").unlink()
    for name in ("mktemp", "uname", "rm"):
        program(stocked.bin, name, f'#!/bin/bash\nexec /usr/bin/{name} "$@"\n')
    bash = shutil.which("bash")
    assert bash is not None
    program(stocked.bin, "bash", f'#!{bash}\nexec {bash} "$@"\n')
    done = stocked.bootstrap(PATH=str(stocked.bin))
    assert done.returncode == 1
    assert "python3.11 is not on this node: choose an EMR release that has it" in done.stderr
    assert "al2023-repos-eu-west-3-de612dc2" in done.stderr
    assert (stocked.bucket.parent / "bucket.sudo").read_text() == "dnf --quiet --assumeyes install python3.11\n"


@pytest.mark.slow
def test_python_is_installed_on_a_node_that_does_not_have_it(tmp_path: Path) -> None:
    node = stock(Node(tmp_path, quick=True), "interpreter.py", "Image.py", "parquet.py")
    (node.bin / "python3.11").rename(node.bin / "packaged")
    program(node.bin, "dnf", f'#!/bin/bash\nexec mv {node.bin}/packaged "{node.bin}/${{@: -1}}"\n')
    others = tmp_path / "others"
    others.mkdir()
    for item in Path("/usr/bin").iterdir():
        if item.name != "python3.11":
            (others / item.name).symlink_to(item)
    done = node.bootstrap(PATH=f"{node.bin}:{others}")
    assert done.returncode == 0, done.stderr
    assert "7 packages" in done.stdout


def test_unknown_architecture_is_reported(stocked: Node) -> None:
    program(stocked.bin, "uname", "#!/bin/bash\necho riscv64\n")
    done = stocked.bootstrap()
    assert done.returncode == 1
    assert "there are no wheels for the architecture riscv64" in done.stderr


@needs_wheelhouse
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_real_wheelhouse_is_complete_and_fits_the_nodes(architecture: str) -> None:
    locked = read_requirements((PROJECT / "requirements-cluster.txt").read_text())
    wheels = check_wheels(locked, HOUSE / architecture, architecture)
    names = {wheel.name.partition("-")[0] for wheel in wheels}
    assert {"ai_edge_litert", "numpy", "obstore", "pillow", "pyarrow"} <= names
    assert not {"tensorflow", "tensorflow_cpu", "keras", "pyspark"} & names
    assert sum(wheel.size for wheel in wheels) < 150e6
