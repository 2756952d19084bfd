"""The wheelhouse: downloaded and checked, uploaded with its record last, and found only when it is complete."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Iterator
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
    """A folder that is pip's only source of packages."""
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


@pytest.fixture
def built(tmp_path: Path, requirements: Path, index: Path) -> Path:
    """A wheelhouse whose wheels were already present, so that pip need not start."""
    cache = tmp_path / "cache"
    for architecture, numpy in {"arm64": ARM_NUMPY, "x86_64": X86_NUMPY}.items():
        folder = cache / requirements_digest(requirements) / architecture
        folder.mkdir(parents=True)
        for name in (numpy, STRENUM):
            shutil.copyfile(index / name, folder / name)
    return build_wheelhouse(cache, requirements)


@pytest.mark.slow  # starts pip
def test_each_architecture_gets_its_wheels_and_the_record_lists_them(tmp_path: Path, requirements: Path) -> None:
    built = build_wheelhouse(tmp_path / "cache", requirements)
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


def test_present_wheels_are_not_downloaded_again(
    built: Path, requirements: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(index / "gone"))
    assert build_wheelhouse(built.parent, requirements) == built


@pytest.mark.slow  # starts pip
def test_interrupted_download_is_resumed(built: Path, requirements: Path) -> None:
    wheel = built / "arm64" / ARM_NUMPY
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[:100])
    (built / "x86_64" / STRENUM).unlink()
    build_wheelhouse(built.parent, requirements)
    assert wheel.read_bytes() == whole
    assert (built / "x86_64" / STRENUM).exists()


@pytest.mark.slow  # starts pip
def test_package_that_is_missing_or_not_the_locked_one_is_refused(
    tmp_path: Path, requirements: Path, index: Path
) -> None:
    make_wheel(index, ARM_NUMPY, "evil")
    with pytest.raises(WheelhouseError, match="for arm64 could not be downloaded"):
        build_wheelhouse(tmp_path / "cache", requirements)
    (index / ARM_NUMPY).unlink()
    with pytest.raises(WheelhouseError, match=r"for arm64 could not be downloaded.*numpy==2\.3\.5"):
        build_wheelhouse(tmp_path / "cache", requirements)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_publishing_again_changes_nothing(
    lake: Lake, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_wheelhouse(lake, built, None)
    assert find_wheelhouse(lake, AWS) == f"{lake.root}/wheels/{built.name}"
    before = files(tmp_path / "lake")
    assert before == {f"wheels/{built.name}/{name}": data for name, data in files(built).items()}
    monkeypatch.setattr(wheelhouse, "write_file", lambda *_: pytest.fail("a wheel was uploaded again"))
    publish_wheelhouse(lake, built, None)
    assert files(tmp_path / "lake") == before


def test_interrupted_upload_leaves_no_wheelhouse_and_can_be_resumed(
    tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaking(put: Any, calls: Iterator[int], broken_at: int) -> Any:
        def call(*args: Any) -> None:
            if next(calls) == broken_at:
                raise OSError("network")
            put(*args)

        return call

    for broken_at in range(5):
        lake, calls = Lake(f"file://{tmp_path}/lake-{broken_at}"), itertools.count()
        with monkeypatch.context() as patched:
            for name in ("write_file", "write_json"):
                patched.setattr(wheelhouse, name, breaking(getattr(wheelhouse, name), calls, broken_at))
            with pytest.raises(OSError, match="network"):
                publish_wheelhouse(lake, built, None)
        with pytest.raises(WheelhouseError, match="no wheelhouse at"):
            find_wheelhouse(lake, AWS)
        assert publish_wheelhouse(lake, built, None) == find_wheelhouse(lake, AWS)


def test_upload_logs_its_progress(lake: Lake, built: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "include.artifacts.wheelhouse")
    publish_wheelhouse(lake, built, None)
    assert "arm64 1/2: backports_strenum" in caplog.text
    assert "x86_64 2/2: numpy" in caplog.text


@pytest.mark.slow
def test_wheelhouse_in_a_bucket_is_complete_and_found(bucket: Any, built: Path) -> None:
    lake = Lake(f"s3://{bucket.name}/folder")
    for _ in range(2):
        assert publish_wheelhouse(lake, built, None) == find_wheelhouse(lake, AWS)
    stored = {item.key: item.get()["Body"].read() for item in bucket.objects.all()}
    assert stored == {f"folder/wheels/{built.name}/{name}": data for name, data in files(built).items()}
    bucket.objects.filter(Prefix=f"folder/wheels/{built.name}/arm64/numpy").delete()
    with pytest.raises(WheelhouseError, match=f"lacks {ARM_NUMPY}"):
        find_wheelhouse(lake, AWS)


@pytest.mark.usefixtures("requirements")
def test_missing_wheelhouse_is_reported_with_the_remedy(lake: Lake) -> None:
    with pytest.raises(WheelhouseError, match=rf"no wheelhouse at {lake.root}/wheels/.*make publish ROOT={lake.root}`"):
        find_wheelhouse(lake, AWS)


def test_wheel_that_is_missing_from_the_lake_is_named(lake: Lake, built: Path, tmp_path: Path) -> None:
    publish_wheelhouse(lake, built, None)
    (tmp_path / "lake" / "wheels" / built.name / "arm64" / ARM_NUMPY).unlink()
    with pytest.raises(WheelhouseError, match=rf"lacks {ARM_NUMPY}.*make publish ROOT="):
        find_wheelhouse(lake, AWS)
    assert find_wheelhouse(lake, Settings(aws_conn_id=None, architecture="x86_64"))


def test_malformed_record_is_refused(lake: Lake, built: Path, tmp_path: Path) -> None:
    publish_wheelhouse(lake, built, None)
    for record in ("{}", '{"architectures": {"x86_64": {}}}', '{"architectures": []}', "[]", '{"arch'):
        (tmp_path / "lake" / "wheels" / built.name / "wheels.json").write_text(record)
        with pytest.raises(WheelhouseError, match="lists no wheels for arm64"):
            find_wheelhouse(lake, AWS)


@pytest.mark.usefixtures("requirements")
def test_local_profile_needs_no_wheelhouse(lake: Lake) -> None:
    settings = Settings(profile="local", aws_conn_id=None)
    assert find_wheelhouse(lake, settings).startswith(f"{lake.root}/wheels/")


def test_changed_requirements_need_another_wheelhouse(lake: Lake, built: Path, requirements: Path) -> None:
    publish_wheelhouse(lake, built, None)
    requirements.write_text(requirements.read_text() + "# changed\n")
    with pytest.raises(WheelhouseError, match="no wheelhouse at"):
        find_wheelhouse(lake, AWS)
