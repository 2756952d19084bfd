"""The wheelhouse: downloaded and checked, put into the lake with its record last, and found only when it is whole."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from include.artifacts import wheelhouse
from include.artifacts.wheelhouse import build_wheelhouse, find_wheelhouse, publish_wheelhouse, requirements_digest
from include.artifacts.wheels import WheelhouseError
from include.lake.layout import Lake
from include.settings.deployment import Settings
from tests.include.wheel_files import make_lock, make_wheel

AWS = Settings(aws_conn_id=None)
ARM_NUMPY = "numpy-2.3.5-cp311-cp311-manylinux_2_28_aarch64.whl"
X86_NUMPY = "numpy-2.3.5-cp311-cp311-manylinux_2_28_x86_64.whl"
STRENUM = "backports_strenum-1.3.1-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing else."""
    folder = tmp_path / "index"
    for name in (ARM_NUMPY, X86_NUMPY, "numpy-2.3.5-cp311-cp311-manylinux_2_35_aarch64.whl"):
        make_wheel(folder, name, "backports-strenum")
    make_wheel(folder, STRENUM, python=">=3.8,<3.11")
    make_wheel(folder, "colorama-0.4.6-py3-none-any.whl")
    for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def requirements(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    entries = {
        "numpy==2.3.5": sorted(index.glob("numpy-*")),
        "backports-strenum==1.3.1": [index / STRENUM],
        "colorama==0.4.6 ; sys_platform == 'win32'": sorted(index.glob("colorama-*")),
    }
    path = tmp_path / "requirements-cluster.txt"
    path.write_text(make_lock(entries))
    monkeypatch.setattr(wheelhouse, "requirements_digest", lambda _=None: requirements_digest(path))
    return path


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(f"file://{tmp_path}/lake")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first test that needs a wheelhouse leaves it: pip takes a second."""
    return tmp_path_factory.mktemp("wheelhouse")


@pytest.fixture
def built(tmp_path: Path, requirements: Path, kept: Path) -> Path:
    if not any(kept.iterdir()):
        build_wheelhouse(kept, requirements)
    shutil.copytree(kept, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    return folder


def test_both_architectures_get_their_own_wheels_and_a_record_tells_all(built: Path, requirements: Path) -> None:
    assert built.name == hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    assert sorted(path.name for path in (built / "arm64").iterdir()) == [STRENUM, ARM_NUMPY]
    assert sorted(path.name for path in (built / "x86_64").iterdir()) == [STRENUM, X86_NUMPY]
    record = json.loads((built / "wheels.json").read_text())
    assert record["requirements"]["sha256"] == hashlib.sha256(requirements.read_bytes()).hexdigest()
    assert record["python"] == "3.11"
    for architecture, part in record["architectures"].items():
        for wheel in part["wheels"]:
            data = (built / architecture / wheel["name"]).read_bytes()
            assert (wheel["bytes"], wheel["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert part["bytes"] == sum(wheel["bytes"] for wheel in part["wheels"])


def test_what_is_there_is_not_downloaded_again(
    built: Path, requirements: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "gone"))
    assert build_wheelhouse(built.parent, requirements) == built


def test_download_that_was_cut_off_goes_on(built: Path, requirements: Path) -> None:
    wheel = built / "arm64" / ARM_NUMPY
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:100])
    (built / "x86_64" / STRENUM).unlink()
    build_wheelhouse(built.parent, requirements)
    assert wheel.read_bytes() == whole
    assert (built / "x86_64" / STRENUM).exists()


def test_package_that_cannot_be_had_is_named(tmp_path: Path, requirements: Path, index: Path) -> None:
    (index / ARM_NUMPY).unlink()
    with pytest.raises(WheelhouseError, match=r"for arm64 could not be downloaded.*numpy==2\.3\.5"):
        build_wheelhouse(tmp_path / "cache", requirements)


def test_package_that_is_not_what_was_locked_is_refused(tmp_path: Path, requirements: Path, index: Path) -> None:
    make_wheel(index, ARM_NUMPY, "evil")
    with pytest.raises(WheelhouseError, match="for arm64 could not be downloaded"):
        build_wheelhouse(tmp_path / "cache", requirements)


def test_published_wheelhouse_is_found(lake: Lake, built: Path) -> None:
    uri = publish_wheelhouse(lake, built, None)
    assert find_wheelhouse(lake, AWS) == uri == f"{lake.root}/wheels/{built.name}"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_publishing_again_changes_nothing(
    lake: Lake, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_wheelhouse(lake, built, None)
    before = files(tmp_path / "lake")
    assert before == {f"wheels/{built.name}/{name}": data for name, data in files(built).items()}
    monkeypatch.setattr(wheelhouse, "write_file", lambda *_: pytest.fail("a wheel was put there again"))
    publish_wheelhouse(lake, built, None)
    assert files(tmp_path / "lake") == before


@pytest.mark.parametrize("broken_at", range(5))
def test_upload_that_breaks_leaves_no_wheelhouse_and_goes_on_later(
    lake: Lake, built: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int
) -> None:
    calls = iter(range(100))

    def breaking(put: Any) -> Any:
        def call(*args: Any) -> None:
            if next(calls) == broken_at:
                raise OSError("network")
            put(*args)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(wheelhouse, "write_file", breaking(wheelhouse.write_file))
        patched.setattr(wheelhouse, "write_json", breaking(wheelhouse.write_json))
        with pytest.raises(OSError, match="network"):
            publish_wheelhouse(lake, built, None)
    with pytest.raises(WheelhouseError, match="no wheelhouse at"):
        find_wheelhouse(lake, AWS)
    assert publish_wheelhouse(lake, built, None) == find_wheelhouse(lake, AWS)


def test_upload_tells_its_progress(lake: Lake, built: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "include.artifacts.wheelhouse")
    publish_wheelhouse(lake, built, None)
    assert "arm64 1/2: backports_strenum" in caplog.text
    assert "x86_64 2/2: numpy" in caplog.text


@pytest.mark.slow
def test_wheelhouse_in_a_bucket_is_whole_and_found(bucket: Any, built: Path) -> None:
    lake = Lake(f"s3://{bucket.name}/folder")
    for _ in range(2):
        assert publish_wheelhouse(lake, built, None) == find_wheelhouse(lake, AWS)
    stored = {item.key: item.get()["Body"].read() for item in bucket.objects.all()}
    assert stored == {f"folder/wheels/{built.name}/{name}": data for name, data in files(built).items()}
    bucket.objects.filter(Prefix=f"folder/wheels/{built.name}/arm64/numpy").delete()
    with pytest.raises(WheelhouseError, match=f"lacks {ARM_NUMPY}"):
        find_wheelhouse(lake, AWS)


@pytest.mark.usefixtures("requirements")
def test_lake_without_a_wheelhouse_is_told_with_the_remedy(lake: Lake) -> None:
    with pytest.raises(WheelhouseError, match=rf"no wheelhouse at {lake.root}/wheels/.*make publish ROOT={lake.root}`"):
        find_wheelhouse(lake, AWS)


def test_wheel_that_is_gone_from_the_lake_is_named(lake: Lake, built: Path, tmp_path: Path) -> None:
    publish_wheelhouse(lake, built, None)
    (tmp_path / "lake" / "wheels" / built.name / "arm64" / ARM_NUMPY).unlink()
    with pytest.raises(WheelhouseError, match=rf"lacks {ARM_NUMPY}.*make publish ROOT="):
        find_wheelhouse(lake, AWS)
    assert find_wheelhouse(lake, Settings(aws_conn_id=None, architecture="x86_64"))


@pytest.mark.parametrize("record", ["{}", '{"architectures": {"x86_64": {}}}', '{"architectures": []}', "[]", '{"arch'])
def test_record_of_another_shape_is_told(lake: Lake, built: Path, tmp_path: Path, record: str) -> None:
    publish_wheelhouse(lake, built, None)
    (tmp_path / "lake" / "wheels" / built.name / "wheels.json").write_text(record)
    with pytest.raises(WheelhouseError, match="lists no wheels for arm64"):
        find_wheelhouse(lake, AWS)


@pytest.mark.usefixtures("requirements")
def test_local_profile_needs_none(lake: Lake) -> None:
    settings = Settings(profile="local", aws_conn_id=None)
    assert find_wheelhouse(lake, settings).startswith(f"{lake.root}/wheels/")


def test_other_requirements_are_another_wheelhouse(lake: Lake, built: Path, requirements: Path) -> None:
    publish_wheelhouse(lake, built, None)
    requirements.write_text(requirements.read_text() + "# changed\n")
    with pytest.raises(WheelhouseError, match="no wheelhouse at"):
        find_wheelhouse(lake, AWS)


def test_command_tells_what_went_wrong_in_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Path:
        raise WheelhouseError("the wheels for arm64 could not be downloaded")

    monkeypatch.setattr(wheelhouse, "build_wheelhouse", fail)
    assert wheelhouse.main() == 1
    assert caplog.messages == ["the wheels for arm64 could not be downloaded"]
