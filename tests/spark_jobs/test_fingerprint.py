"""The fingerprint of features: it changes with everything that affects them, and with nothing else."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from spark_jobs import fingerprint
from spark_jobs.args import FeaturizeArgs
from spark_jobs.images import decoding, rejects

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = REPOSITORY / "tests" / "data" / "images"

MODEL = "0123456789abcdef" * 4
ARGS = FeaturizeArgs(images="s3://lake/data", run="s3://lake/runs/a", model="s3://lake/models/0123456789abcdef")

OTHER_VALUES: dict[str, Any] = {
    "progress_seconds": 5.0,
    "images": "s3://other/data",
    "run": "s3://lake/runs/b",
    "model": "s3://lake/models/copy",
    "changes": "s3://lake/runs/b/changes.json",
    "segments": "s3://lake/segments",
    "denylist": "s3://lake/erasures/denylist.json",
    "small_segments": 3,
    "pattern": "all",
    "include_hidden": True,
    "max_reject_ratio": 1.0,
    "images_per_task": 7,
    "bytes_per_task": 7,
    "reads_in_flight": 7,
    "read_bytes_in_flight": 2**30,
    "exif_orientation": "apply",
    "max_pixels": 1_000,
    "max_file_bytes": 1_000,
    "decode_memory_mb": 2048,
    "decode_seconds": 1.5,
}
AFFECTS = {"exif_orientation", "max_pixels", "max_file_bytes", "decode_memory_mb", "decode_seconds"}
"""The arguments with which a file has other pixels, or is a reject instead of features."""


def digest(model: str = MODEL, args: FeaturizeArgs = ARGS) -> str:
    return fingerprint.planned(model, args)["digest"]


def test_it_is_the_digest_of_everything_that_it_names() -> None:
    found = fingerprint.planned(MODEL, ARGS)
    text = json.dumps(found["inputs"], sort_keys=True, separators=(",", ":"))
    assert found["digest"] == hashlib.sha256(text.encode()).hexdigest()
    assert found["inputs"] == {
        "model": MODEL, "decoding": fingerprint.DECODING, "inference": fingerprint.INFERENCE,
        **pins(), **{name: getattr(ARGS, name) for name in AFFECTS},
    }  # fmt: skip


def pins() -> dict[str, str]:
    """Return what requirements-cluster.txt pins of the libraries between a file's bytes and its features."""
    text = (REPOSITORY / "requirements-cluster.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, flags=re.M))
    return {name: pinned[name] for name in ("ai-edge-litert", "numpy", "pillow", "pillow-heif")}


def test_the_libraries_are_those_that_the_nodes_install() -> None:
    assert pins() == fingerprint.LIBRARIES


def test_the_nodes_compute_what_was_planned() -> None:
    """This environment has the nodes' libraries."""
    assert fingerprint.installed(MODEL, ARGS) == fingerprint.planned(MODEL, ARGS)


def test_another_library_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = fingerprint.planned(MODEL, ARGS)
    monkeypatch.setattr("importlib.metadata.version", {**pins(), "pillow": "13.0.1"}.__getitem__)
    found = fingerprint.installed(MODEL, ARGS)
    assert found["digest"] != planned["digest"]
    assert fingerprint.differences(planned, found) == "pillow: 13.0.0 → 13.0.1"


def test_another_model_or_another_version_of_the_rules_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {digest(), digest("f" * 64)}
    for name in ("DECODING", "INFERENCE"):
        with monkeypatch.context() as patch:
            patch.setattr(fingerprint, name, 1_000)
            found.add(digest())
    assert len(found) == 4


@pytest.mark.parametrize("name", [field.name for field in fields(FeaturizeArgs)])
def test_the_arguments_that_affect_pixels_or_rejects_change_it_and_no_others(name: str) -> None:
    other = replace(ARGS, **{name: OTHER_VALUES[name]})
    assert getattr(other, name) != getattr(ARGS, name)
    assert (digest(args=other) != digest()) == (name in AFFECTS)


def test_a_changed_log_line_and_its_digest_of_the_code_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint.installed(MODEL, ARGS)
    monkeypatch.setattr("spark_jobs.sources.sources_digest", lambda: "of other sources")
    monkeypatch.setattr("spark_jobs.runtime.summary.log_line", lambda *_: None)
    assert fingerprint.installed(MODEL, ARGS) == before


@pytest.mark.parametrize("seconds", [60, 60.0, 2.5])
def test_airflow_and_the_job_that_parses_its_flags_have_the_same(seconds: float) -> None:
    sent = replace(ARGS, decode_seconds=seconds)
    received = FeaturizeArgs.from_argv(sent.to_argv())
    assert digest(args=received) == digest(args=sent)


def test_a_run_of_the_first_version_counts_as_computed_with_the_pinned_libraries() -> None:
    record = json.loads(json.dumps(asdict(ARGS)))
    for name in ("changes", "segments", "denylist", "small_segments"):
        del record[name]
    assert fingerprint.recorded(MODEL, record) == fingerprint.planned(MODEL, ARGS)
    record["exif_orientation"] = "apply"
    assert fingerprint.recorded(MODEL, record)["digest"] != digest()
    del record["exif_orientation"]
    assert fingerprint.recorded(MODEL, record)["digest"] != digest(), "what it does not say is not guessed"


def test_differences_are_short_and_name_what_is_missing() -> None:
    before: Any = {"digest": "a", "inputs": {"model": "a" * 64, "pillow": "1", "old": 3, "same": 1}}
    now: Any = {"digest": "b", "inputs": {"model": "b" * 64, "pillow": "2", "new": 1.5, "same": 1}}
    aaa, bbb = "a" * 16, "b" * 16
    found = fingerprint.differences(before, now)
    assert found == f"model: {aaa}… → {bbb}…; new: none → 1.5; old: 3 → none; pillow: 1 → 2"


RECORDED_REASONS = {1: "37107a203233d3bcd23dddab2dede7d8f9d11c5f8ffb5a06683f41b9bd6d6986"}
RECORDED_PIXELS = {1: "4439af94306e8275fc32f7bf10b7318fcb5612a5f4a8c91dac92464b63bea1fa"}
"""Digests of what decoding made of the files, by ``fingerprint.DECODING``; the pixels are those of x86-64."""

ADVICE = (
    "decoding gives other {what} of the files in tests/data/images than the version {version} of its rules did. Raise "
    "DECODING in spark_jobs/fingerprint.py, so that published features are computed again, and record {found!r} here "
    "for the new version. If only Pillow or NumPy was updated, the fingerprint differs already: record it for the same "
    "version"
)


def outcomes() -> Iterator[tuple[str, decoding.Pixels | rejects.Reject]]:
    for file in sorted([*IMAGES.glob("good_*"), *IMAGES.glob("bad_*")]):
        for turned in (False, True):
            outcome = decoding.decode(file.read_bytes(), max_pixels=ARGS.max_pixels, apply_orientation=turned)
            yield f"{file.name} {turned}", outcome


def check_recorded(what: str, recorded: dict[int, str], found: str) -> None:
    version = fingerprint.DECODING
    assert recorded.get(version) == found, ADVICE.format(what=what, version=version, found=found)


def test_other_reasons_of_rejects_need_another_version_of_decoding() -> None:
    reasons = {name: outcome.reason if isinstance(outcome, rejects.Reject) else None for name, outcome in outcomes()}
    assert sum(reason is None for reason in reasons.values()) == 2 * len(list(IMAGES.glob("good_*"))) > 30
    found = hashlib.sha256(json.dumps(reasons, sort_keys=True).encode()).hexdigest()
    check_recorded("reasons of rejects", RECORDED_REASONS, found)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="codecs may round differently on other processors")
def test_other_pixels_need_another_version_of_decoding() -> None:
    found = hashlib.sha256()
    for name, outcome in outcomes():
        if not isinstance(outcome, rejects.Reject):
            found.update(f"{name} {outcome.shape} {outcome.dtype}\n".encode() + outcome.tobytes())
    check_recorded("pixels", RECORDED_PIXELS, found.hexdigest())
