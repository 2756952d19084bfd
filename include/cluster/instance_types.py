"""The EC2 instance types that a cluster may be made of, as they were captured; no account is asked."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_suffix(".tsv")
"""Written by ``scripts/capture_instance_types.py``, which says from what."""

CAPTURED_REGION = "eu-west-3"
"""The region whose offer of types and releases was captured."""

RELEASES = (
    *("emr-spark-8.1.0", "emr-spark-8.0.0", "emr-7.14.0", "emr-7.13.0", "emr-7.12.0", "emr-7.11.0", "emr-7.10.0"),
)
"""Release labels offered in that region, from the first whose ``s3://`` is S3A (EMR Release Guide, "EMRFS to S3A
filesystem migration": 7.10.0); they have Python 3.11 (the same, "Application versions", and the release notes of
emr-spark-8.0.0). All of them support every type of the table."""


@dataclass(frozen=True)
class InstanceType:
    """One EC2 instance type.

    Attributes
    ----------
    name : str
        Such as ``c7g.2xlarge``.
    vcpus : int
        What EC2 counts as vCPUs: cores on Graviton, hardware threads on x86-64.
    memory_mib : int
        Its memory, in MiB.
    architecture : str
        ``arm64`` or ``x86_64``, as EC2 calls them.
    zones : str
        Letters of the availability zones of :data:`CAPTURED_REGION` that offer it.
    """

    name: str
    vcpus: int
    memory_mib: int
    architecture: str
    zones: str


@functools.cache
def instance_types() -> dict[str, InstanceType]:
    """Return all types of the table by their name."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines[2:])
    return {
        name: InstanceType(name, int(vcpus), int(memory), architecture, zones)
        for name, vcpus, memory, architecture, zones in rows
    }
