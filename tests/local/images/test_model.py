"""The model of a local run: real weights if possible; random weights only as a last resort, with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.artifacts.weights import DOWNLOAD, RANDOM, WeightsError
from local.images import model
from local.images.model import DOWNLOAD_FAILED, choose_model


class Machine:
    """A machine with or without weights and network; exports are simulated."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.weights: str | None = None
        self.network = True
        self.damaged = False
        self.requests: list[str] = []
        monkeypatch.setattr(model, "find_weights", lambda shared: self.weights)
        monkeypatch.setattr(model, "publish_model", self.publish)

    def publish(self, lake: Any, weights: str, cache: Path, conn: str | None) -> dict[str, Any]:
        self.requests.append(weights)
        cache.mkdir(parents=True, exist_ok=True)
        if weights == DOWNLOAD and not self.network:
            raise WeightsError("no network")
        if self.damaged:
            raise WeightsError("damaged")
        return {"digest": "d", "weights": {"source": weights.partition(":")[0]}}

    def choose(self, *, weights: str | None, network: bool) -> str:
        """Choose a model; return the printed lines."""
        self.weights, self.network = weights, network
        self.requests.clear()
        printed: list[str] = []
        choose_model(f"file://{self.folder}/lake", self.cache, self.folder / "shared", printed.append)
        return "\n".join(printed)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_weights_of_this_machine_come_first_then_the_download(machine: Machine) -> None:
    assert "RANDOM" not in machine.choose(weights="/w.h5", network=True)
    assert machine.requests == ["/w.h5"]
    assert "RANDOM" not in machine.choose(weights=None, network=True)
    assert machine.requests == [DOWNLOAD]
    assert not (machine.cache / DOWNLOAD_FAILED).exists()


def test_random_weights_are_last_with_a_warning_a_reason_and_a_remedy(machine: Machine) -> None:
    printed = machine.choose(weights=None, network=False)
    assert machine.requests == [DOWNLOAD, RANDOM]
    assert "RANDOM WEIGHTS" in printed
    assert "no network" in printed, "the reason of the failed download"
    assert str(machine.cache / DOWNLOAD_FAILED) in printed, "how to retry the download"


def test_failed_download_is_not_retried_until_its_mark_is_deleted(machine: Machine) -> None:
    machine.choose(weights=None, network=False)
    machine.choose(weights=None, network=True)
    assert machine.requests == [RANDOM]
    machine.choose(weights="/w.h5", network=False)
    assert machine.requests == ["/w.h5"], "the mark does not hide weights"
    (machine.cache / DOWNLOAD_FAILED).unlink()
    machine.choose(weights=None, network=True)
    assert machine.requests == [DOWNLOAD]


def test_weights_that_cannot_be_exported_are_an_error_and_never_replaced(machine: Machine) -> None:
    machine.damaged = True
    with pytest.raises(WeightsError, match="damaged"):
        machine.choose(weights="/w.h5", network=True)
    assert machine.requests == ["/w.h5"]
