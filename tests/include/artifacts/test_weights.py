"""The places that are searched for weights, and their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.artifacts.weights import WEIGHTS_FILE, WeightsError, find_weights


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, Path]:
    """A machine that has weights in each of the places."""
    places = {
        "named": tmp_path / "named.h5",
        "keras": tmp_path / "keras" / "models" / WEIGHTS_FILE,
        "shared": tmp_path / "shared" / "weights" / WEIGHTS_FILE,
    }
    for path in places.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"h5")
    return places


def test_order_is_name_then_keras_cache_then_shared(machine: dict[str, Path], tmp_path: Path) -> None:
    environ = {"FRUITS_WEIGHTS": str(machine["named"]), "KERAS_HOME": str(tmp_path / "keras")}
    assert find_weights(environ, tmp_path / "shared") == str(machine["named"])
    del environ["FRUITS_WEIGHTS"]
    assert find_weights(environ, tmp_path / "shared") == str(machine["keras"])
    machine["keras"].unlink()
    assert find_weights(environ, tmp_path / "shared") == str(machine["shared"])
    assert find_weights(environ) is None
    machine["shared"].unlink()
    assert find_weights(environ, tmp_path / "shared") is None


def test_wrong_name_is_an_error_and_never_a_fallback(machine: dict[str, Path], tmp_path: Path) -> None:
    for name in (str(tmp_path / "missing.h5"), str(tmp_path), "random:0", "imagenet"):
        environ = {"FRUITS_WEIGHTS": name, "KERAS_HOME": str(machine["keras"].parents[1])}
        with pytest.raises(WeightsError, match=r"FRUITS_WEIGHTS=.* is not a file; expected"):
            find_weights(environ, tmp_path / "shared")


def test_empty_name_is_ignored(machine: dict[str, Path], tmp_path: Path) -> None:
    environ = {"FRUITS_WEIGHTS": "", "KERAS_HOME": str(tmp_path / "keras")}
    assert find_weights(environ) == str(machine["keras"])


def test_keras_cache_is_in_the_home_folder(
    machine: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".keras" / "models").mkdir(parents=True)
    machine["keras"].rename(home / ".keras" / "models" / WEIGHTS_FILE)
    monkeypatch.setenv("HOME", str(home))
    assert find_weights({}) == str(home / ".keras" / "models" / WEIGHTS_FILE)
