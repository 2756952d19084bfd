"""The fingerprint of features: what they depend on, apart from the image itself. Standard library only.

Features are kept from one run to the next while the fingerprint stays the same. The code's digest is not a part of it:
a changed log line must not compute a million images again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import metadata

from spark_jobs.args import FeaturizeArgs
from spark_jobs.records import Arguments, Fingerprint

Inputs = dict[str, str | int | float]

DECODING = 1
"""Version of the decoding rules: which files are rejected, and the pixels of the others. Raise it when a change of
``spark_jobs.images`` alters either; ``tests/spark_jobs/test_fingerprint.py`` fails until then."""

INFERENCE = 1
"""Version of the way from pixels to features. Raise it when a change of ``spark_jobs.model`` alters the features."""

LIBRARIES = {"ai-edge-litert": "2.3.0", "numpy": "2.3.5", "pillow": "13.0.0", "pillow-heif": "1.8.1"}
"""The libraries that affect pixels or features, as ``requirements-cluster.txt`` pins them for the nodes."""

ARGUMENTS = ("decode_memory_mb", "decode_seconds", "exif_orientation", "max_file_bytes", "max_pixels")
"""The arguments of featurize that affect pixels or rejects."""


def planned(model: str, args: FeaturizeArgs) -> Fingerprint:
    """Return the fingerprint of features that nodes with the pinned libraries compute.

    Parameters
    ----------
    model : str
        SHA-256 of the model's flatbuffer.
    args : FeaturizeArgs
        The arguments of the job.
    """
    return _fingerprint(model, args, LIBRARIES)


def installed(model: str, args: FeaturizeArgs) -> Fingerprint:
    """Return the fingerprint of features that this machine computes; the parameters are those of :func:`planned`."""
    return _fingerprint(model, args, {name: metadata.version(name) for name in LIBRARIES})


def recorded(model: str, arguments: Arguments) -> Fingerprint:
    """Return the fingerprint of features of the lake's first version, which did not record one.

    Its features count as computed with the pinned libraries.

    Parameters
    ----------
    model : str
        SHA-256 of the model's flatbuffer.
    arguments : dict
        The arguments of the job that computed the features, as its summary has them.
    """
    return _digest({**_versions(model, LIBRARIES), **{name: arguments.get(name) or "" for name in ARGUMENTS}})


def _fingerprint(model: str, args: FeaturizeArgs, libraries: Mapping[str, str]) -> Fingerprint:
    return _digest({**_versions(model, libraries), **{name: getattr(args, name) for name in ARGUMENTS}})


def _versions(model: str, libraries: Mapping[str, str]) -> Inputs:
    return {"model": model, "decoding": DECODING, "inference": INFERENCE, **libraries}


def _digest(inputs: Inputs) -> Fingerprint:
    """Return the fingerprint; 60.0 counts as 60, since a command line does not tell one from the other."""
    inputs = {
        name: int(each) if isinstance(each, float) and each.is_integer() else each for name, each in inputs.items()
    }
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return {"digest": hashlib.sha256(text.encode()).hexdigest(), "inputs": inputs}


def differences(before: Fingerprint, now: Fingerprint) -> str:
    """Return what differs between two fingerprints, for people: ``model: 1a2b… → 3c4d…; pillow: 12.0.0 → 13.0.0``."""
    names = sorted(set(before["inputs"]) | set(now["inputs"]))
    pairs = [(name, before["inputs"].get(name), now["inputs"].get(name)) for name in names]
    return "; ".join(f"{name}: {_short(old)} → {_short(new)}" for name, old, new in pairs if old != new)


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 16 else f"{text[:16]}…"
