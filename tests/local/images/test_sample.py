"""The generated sample."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from include.settings.parameters import RunParams
from local.images import sample
from local.images.folder import ImageFolder
from local.images.loading import load_images


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "IMAGES_PER_LABEL", 3)


def digests(folder: Path) -> dict[str, str]:
    files = list(folder.rglob("*.jpg"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.usefixtures("small")
def test_sample_is_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        sample.make_sample(tmp_path / name)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(set(digests(tmp_path / "a").values())) == 3 * len(sample.LABELS), "two images are equal"


@pytest.mark.usefixtures("small")
def test_every_image_can_be_decoded_and_loaded(tmp_path: Path) -> None:
    sample.make_sample(tmp_path / "sample")
    for path in (tmp_path / "sample").rglob("*.jpg"):
        with Image.open(path) as image:
            image.load()
            assert (image.mode, image.size) == ("RGB", (sample.SIZE, sample.SIZE))
    result = load_images(tmp_path / "sample", ImageFolder(tmp_path / "lake"), RunParams.image_pattern)
    assert result.images == 3 * len(sample.LABELS)


@pytest.mark.usefixtures("small")
def test_interrupted_sample_is_completed(tmp_path: Path) -> None:
    sample.make_sample(tmp_path / "a")
    complete = digests(tmp_path / "a")
    (tmp_path / "a.complete").unlink()
    victim = next((tmp_path / "a").rglob("*.jpg"))
    victim.write_bytes(victim.read_bytes()[:100])
    sample.make_sample(tmp_path / "a")
    assert digests(tmp_path / "a") == complete


@pytest.mark.usefixtures("small")
def test_complete_sample_is_not_generated_again(tmp_path: Path) -> None:
    sample.make_sample(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    sample.make_sample(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_sample_has_enough_images_for_principal_components() -> None:
    assert sample.IMAGES_PER_LABEL * len(sample.LABELS) >= 200
    assert any(" " in label for label in sample.LABELS), "labels with spaces are part of the demonstration"
