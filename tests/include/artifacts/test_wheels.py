"""A wheelhouse needs a wheel, with the locked bytes, for each line of the lock that applies to nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.artifacts.wheels import Requirement, WheelhouseError, check_wheels, node_tags, platforms, read_requirements
from tests.include.wheel_files import make_lock, make_wheel, sha256

ROOT = Path(__file__).resolve().parents[3]
ARM = "arm64"
NUMPY_ARM = "numpy-2.3.5-cp311-cp311-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A complete wheelhouse for arm64."""
    folder = tmp_path / "house"
    make_wheel(folder, NUMPY_ARM)
    make_wheel(folder, "six-1.17.0-py2.py3-none-any.whl")
    make_wheel(
        folder, "obstore-0.12.1-cp311-abi3-manylinux_2_24_aarch64.whl", "six", 'colorama; sys_platform == "win32"'
    )
    return folder


def lock(house: Path, **more: list[Path]) -> list[Requirement]:
    wheels = {path.name.split("-")[0]: path for path in house.iterdir()}
    entries = {
        "numpy==2.3.5": [wheels["numpy"]],
        "six==1.17.0": [wheels["six"]],
        "obstore==0.12.1": [wheels["obstore"]],
        "colorama==0.4.6 ; sys_platform == 'win32'": [wheels["six"]],
        **more,
    }
    return read_requirements(make_lock(entries))


def test_complete_wheelhouse_passes_with_its_sizes_and_digests(house: Path) -> None:
    found = check_wheels(lock(house), house, ARM)
    assert [wheel.name.split("-")[0] for wheel in found] == ["numpy", "obstore", "six"]
    assert [wheel.size for wheel in found] == [wheel.path.stat().st_size for wheel in found]
    assert [wheel.sha256 for wheel in found] == [sha256(wheel.path) for wheel in found]


def test_missing_wheel_is_named(house: Path) -> None:
    locked = lock(house)
    (house / NUMPY_ARM).unlink()
    with pytest.raises(WheelhouseError, match=r"no wheel for numpy==2\.3\.5"):
        check_wheels(locked, house, ARM)


def test_wheel_that_nodes_cannot_install_is_refused(house: Path) -> None:
    locked = lock(house)
    (house / NUMPY_ARM).unlink()
    for file_name, message in {
        "numpy-2.3.5-cp311-cp311-manylinux_2_27_x86_64.whl": "does not fit Python 3.11 on arm64",
        "numpy-2.3.5-cp311-cp311-manylinux_2_35_aarch64.whl": "glibc 2.34",
        "numpy-2.3.5-cp311-cp311-musllinux_1_2_aarch64.whl": "does not fit",
        "numpy-2.3.5-cp312-cp312-manylinux_2_28_aarch64.whl": "does not fit",
        "numpy-2.3.5-cp311-cp311-macosx_11_0_arm64.whl": "does not fit",
        "numpy-2.3.6-cp311-cp311-manylinux_2_28_aarch64.whl": "the lock has version 2.3.5",
    }.items():
        wheel = make_wheel(house, file_name)
        with pytest.raises(WheelhouseError, match=message) as caught:
            check_wheels(locked, house, ARM)
        assert "no wheel for numpy==2.3.5" in str(caught.value)
        wheel.unlink()


def test_wheel_with_other_bytes_than_the_lock_names_is_refused(house: Path) -> None:
    locked = lock(house)
    make_wheel(house, NUMPY_ARM, "six")
    with pytest.raises(WheelhouseError, match=rf"{NUMPY_ARM} has the hash .*, which is not in the lock"):
        check_wheels(locked, house, ARM)


def test_file_that_does_not_belong_there_is_named(house: Path) -> None:
    locked = lock(house)
    for file_name, message in {
        "extra-1.0-py3-none-any.whl": "extra-1.0-py3-none-any.whl is not in the lock",
        "colorama-0.4.6-py3-none-any.whl": "is not in the lock",  # in the lock for Windows only
        "numpy-2.3.5.tar.gz": "numpy-2.3.5.tar.gz is not a wheel",
    }.items():
        (house / file_name).touch()
        with pytest.raises(WheelhouseError, match=message):
            check_wheels(locked, house, ARM)
        (house / file_name).unlink()


def test_second_wheel_of_a_package_is_refused(house: Path) -> None:
    other = make_wheel(house, "numpy-2.3.5-cp311-cp311-manylinux_2_17_aarch64.whl")
    locked = read_requirements(
        make_lock({"numpy==2.3.5": [house / NUMPY_ARM, other], "six==1.17.0": [*house.glob("six*")]})
    )
    with pytest.raises(WheelhouseError, match=rf"{NUMPY_ARM} is a second wheel of the package, next to {other.name}"):
        check_wheels(locked, house, ARM)


def test_dependency_that_the_lock_lacks_is_named(house: Path) -> None:
    locked = [item for item in lock(house) if item.name != "six"]
    next(house.glob("six-*")).unlink()
    with pytest.raises(WheelhouseError, match="obstore needs six, which is not in the lock"):
        check_wheels(locked, house, ARM)


def test_all_problems_are_reported_at_once(house: Path) -> None:
    locked = lock(house)
    (house / NUMPY_ARM).unlink()
    make_wheel(house, "extra-1.0-py3-none-any.whl")
    with pytest.raises(WheelhouseError, match=r"extra.*no wheel for numpy"):
        check_wheels(locked, house, ARM)


def test_line_that_cannot_be_checked_is_refused() -> None:
    for line in (
        "numpy==2.3.5",
        "numpy>=2 --hash=sha256:" + "0" * 64,
        "numpy==1 --hash=md5:0",
        "git+https://example.org/x.git",
        "-r other.txt",
    ):
        with pytest.raises(WheelhouseError, match=r"expected name==version with --hash=sha256"):
            read_requirements(line + "\n")


def test_lock_of_the_project_is_read_completely() -> None:
    text = (ROOT / "requirements-cluster.txt").read_text()
    found = read_requirements(text)
    assert len(found) == text.count("==") - text.count(" == ") - text.count("'=='")
    assert sum(len(item.sha256) for item in found) == text.count("--hash=")
    assert {item.name for item in found if not item.applies(ARM)} == {"colorama"}
    assert not {item.name for item in found} & {"tensorflow", "keras", "pyspark", "apache-airflow"}


def test_nodes_support_no_glibc_newer_than_that_of_amazon_linux_2023() -> None:
    supported = {str(tag) for tag in node_tags("x86_64")}
    assert {"cp311-cp311-manylinux_2_34_x86_64", "cp38-abi3-manylinux2014_x86_64", "py3-none-any"} <= supported
    assert not any("_2_35_" in tag or "aarch64" in tag or "musllinux" in tag for tag in supported)
    assert platforms("arm64")[0] == "manylinux_2_34_aarch64"
