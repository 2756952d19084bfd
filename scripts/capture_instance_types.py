"""Write include/cluster/instance_types.tsv: the instance types that a cluster may have, as EC2 and EMR describe them.

    python scripts/capture_instance_types.py [--check]

The source is moto's captures of DescribeInstanceTypes, DescribeInstanceTypeOfferings and ListSupportedInstanceTypes, so
production code needs neither moto nor an AWS account.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from moto.utilities.utils import load_resource

TARGET = Path(__file__).resolve().parent.parent / "include" / "cluster" / "instance_types.tsv"
REGION = "eu-west-3"
RELEASE = "emr-spark-8.1.0"
FAMILIES = re.compile(r"[cmr][5-9][a-z]*(-flex)?\.[0-9]*xlarge")
"""General purpose, compute optimized and memory optimized types, from the first generation with Nitro. Other families
(storage optimized, accelerated) cost more for hardware that the jobs do not use."""


def table() -> str:
    """Return the file's text: one line per type, sorted by name."""
    types = load_resource("ec2/resources/instance_types.json")
    offerings = load_resource(f"ec2/resources/instance_type_offerings/availability-zone/{REGION}.json")
    supported = set(load_resource(f"emr/resources/instance-types-{RELEASE}.json"))
    zones = defaultdict(set)
    for offering in offerings:
        zones[offering["InstanceType"]].add(offering["Location"].removeprefix(REGION))
    source = f"Offered in {REGION} and supported by {RELEASE}, as moto {version('moto')} has captured it."
    lines = [
        f"# {source} Written by scripts/capture_instance_types.py.",
        "name\tvcpus\tmemory_mib\tarchitecture\tzones",
    ]
    for name in sorted(supported & set(zones) & set(types)):
        if FAMILIES.fullmatch(name):
            (architecture,) = types[name]["ProcessorInfo"]["SupportedArchitectures"]
            vcpus, memory = types[name]["VCpuInfo"]["DefaultVCpus"], types[name]["MemoryInfo"]["SizeInMiB"]
            lines.append(f"{name}\t{vcpus}\t{memory}\t{architecture}\t{''.join(sorted(zones[name]))}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Write include/cluster/instance_types.tsv from moto's captures.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    if not parser.parse_args().check:
        TARGET.write_text(table(), encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != table():
        sys.stderr.write(f"{TARGET} differs from moto's captures: run scripts/capture_instance_types.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
