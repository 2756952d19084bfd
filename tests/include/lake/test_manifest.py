"""The manifest of a run."""

from __future__ import annotations

from include.records import Manifest
from tests.include.run_records import manifest, run_record


def test_manifest_has_the_fields_of_its_record() -> None:
    assert set(manifest()) == set(Manifest.__annotations__)


def test_random_weights_are_the_first_warning_and_the_arguments_stay_unchanged() -> None:
    verified = {"warnings": ["the variance target was not reached"]}
    assert manifest(verified=verified)["warnings"] == verified["warnings"]
    model = run_record()["model"] | {"weights": {"source": "random"}}
    first, *others = manifest(run=run_record(model=model), verified=verified)["warnings"]
    assert first.startswith("RANDOM WEIGHTS")
    assert others == verified["warnings"] == ["the variance target was not reached"]
