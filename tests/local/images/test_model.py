"""The model of a local run: real weights where there are any; random ones are the last way, and said loudly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.artifacts.weights import DOWNLOAD, RANDOM, WeightsError
from local.images import model
from local.images.model import DOWNLOAD_FAILED, choose_model


class Publisher:
    """Takes the place of the export; a download fails when there is no network."""

    def __init__(self, network: bool) -> None:
        self.network = network
        self.asked: list[str] = []

    def __call__(self, lake: Any, weights: str, cache: Path, conn: str | None) -> dict[str, Any]:
        self.asked.append(weights)
        cache.mkdir(parents=True, exist_ok=True)
        if weights == DOWNLOAD and not self.network:
            raise WeightsError("no network")
        return {"digest": "d", "weights": {"source": weights.partition(":")[0]}}


@pytest.fixture
def said() -> list[str]:
    return []


def choose(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch, *, weights: str | None, network: bool
) -> Publisher:
    publisher = Publisher(network)
    monkeypatch.setattr(model, "find_weights", lambda shared: weights)
    monkeypatch.setattr(model, "publish_model", publisher)
    choose_model(f"file://{tmp_path}/lake", tmp_path / "cache", tmp_path / "shared", said.append)
    return publisher


def test_weights_of_this_machine_come_first(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(tmp_path, said, monkeypatch, weights="/w.h5", network=True).asked == ["/w.h5"]
    assert "RANDOM" not in "".join(said)


def test_then_the_download(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose(tmp_path, said, monkeypatch, weights=None, network=True).asked == [DOWNLOAD]
    assert not (tmp_path / "cache" / DOWNLOAD_FAILED).exists()


def test_random_weights_are_last_and_said_loudly(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose(tmp_path, said, monkeypatch, weights=None, network=False).asked == [DOWNLOAD, RANDOM]
    assert "RANDOM WEIGHTS" in "".join(said)
    assert "no network" in "".join(said), "why the download failed is said too"
    assert str(tmp_path / "cache" / DOWNLOAD_FAILED) in "".join(said), "and how to try it again"


def test_failed_download_is_not_tried_at_every_run(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(tmp_path, said, monkeypatch, weights=None, network=False)
    assert choose(tmp_path, said, monkeypatch, weights=None, network=True).asked == [RANDOM]
    (tmp_path / "cache" / DOWNLOAD_FAILED).unlink()
    assert choose(tmp_path, said, monkeypatch, weights=None, network=True).asked == [DOWNLOAD]


def test_mark_of_a_failed_download_does_not_hide_weights(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(tmp_path, said, monkeypatch, weights=None, network=False)
    assert choose(tmp_path, said, monkeypatch, weights="/w.h5", network=False).asked == ["/w.h5"]


def test_weights_that_cannot_be_exported_are_an_error_and_never_replaced(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(lake: Any, weights: str, cache: Path, conn: str | None) -> None:
        asked.append(weights)
        raise WeightsError("damaged")

    monkeypatch.setattr(model, "find_weights", lambda shared: "/w.h5")
    monkeypatch.setattr(model, "publish_model", fail)
    with pytest.raises(WeightsError, match="damaged"):
        choose_model(f"file://{tmp_path}/lake", tmp_path / "cache", tmp_path / "shared", said.append)
    assert asked == ["/w.h5"]
