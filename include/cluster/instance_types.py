"""The EC2 instance types and EMR releases that a cluster may have, captured in a table: no AWS request is needed."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_suffix(".tsv")
"""Written by ``scripts/capture_instance_types.py``, which documents the sources."""

CAPTURED_REGION = "eu-west-3"
"""The region whose instance types and releases were captured."""

RELEASES = (
    *("emr-spark-8.1.0", "emr-spark-8.0.0", "emr-7.14.0", "emr-7.13.0", "emr-7.12.0", "emr-7.11.0", "emr-7.10.0"),
)
"""Release labels that are available in that region, starting with the first one that uses S3A for ``s3://`` (7.10.0:
EMR Release Guide, "EMRFS to S3A filesystem migration"). They have Python 3.11 (EMR Release Guide, "Application
versions"; release notes of emr-spark-8.0.0) and support every type of the table."""


@dataclass(frozen=True)
class InstanceType:
    """One EC2 instance type.

    Attributes
    ----------
    name : str
        Such as ``c7g.2xlarge``.
    vcpus : int
        vCPUs as EC2 counts them: cores on Graviton, hardware threads on x86-64.
    memory_mib : int
        Memory in MiB.
    architecture : str
        ``arm64`` or ``x86_64``.
    zones : str
        Letters of the availability zones of :data:`CAPTURED_REGION` that offer the type.
    """

    name: str
    vcpus: int
    memory_mib: int
    architecture: str
    zones: str


@functools.cache
def instance_types() -> dict[str, InstanceType]:
    """Return all types of the table by name."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines[2:])
    return {
        name: InstanceType(name, int(vcpus), int(memory), architecture, zones)
        for name, vcpus, memory, architecture, zones in rows
    }
