"""What a name or an answer of AWS says of its region. Pure; None where it says nothing that is certain."""

from __future__ import annotations

import re

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")
_ZONE = re.compile(rf"({_REGION.pattern})[a-z]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_NO_PLAIN_BUCKET = {
    ".mrap": "the alias of a multi-region access point, which spreads over regions",
    "-s3alias": "the alias of an access point, which hides its bucket",
    "--ol-s3": "the alias of an Object Lambda access point, which hides its bucket",
    "--x-s3": "a directory bucket, which tells no region",
    "--table-s3": "a table bucket, which takes no plain objects",
}
"""Endings that S3 keeps for other things than general purpose buckets (S3 User Guide, bucket naming rules; for
multi-region access points, whose alias ends in ``.mrap``, the rules of their names)."""


def region_or_none(value: object) -> str | None:
    """Return the value when it has the form of a region's name."""
    return value if isinstance(value, str) and _REGION.fullmatch(value) else None


def arn_region(arn: object) -> str | None:
    """Return the fourth part of an ARN (``arn:partition:service:region:account:resource``)."""
    if not isinstance(arn, str):
        return None
    parts = arn.split(":", 5)
    return region_or_none(parts[3]) if len(parts) == 6 and parts[0] == "arn" else None


def zone_region(zone: object) -> str | None:
    """Return the region of an availability zone.

    Only a region's own zones count (``eu-west-3a``). Local and wavelength zones (``us-east-1-scl-1a`` is in Santiago de
    Chile) belong to a region and lie elsewhere (EC2 User Guide, Local Zones).
    """
    found = _ZONE.fullmatch(zone) if isinstance(zone, str) else None
    return found.group(1) if found else None


def location_region(constraint: object) -> str | None:
    """Return the region of GetBucketLocation's ``LocationConstraint``.

    An empty one means us-east-1, and ``EU`` is the old name of eu-west-1 (S3 API reference, GetBucketLocation).
    """
    if constraint is None or constraint == "":
        return "us-east-1"
    return "eu-west-1" if constraint == "EU" else region_or_none(constraint)


def bucket_name(uri: str) -> str:
    """Return the bucket of an ``s3://bucket[/folder]``; S3's other schemes (s3a, s3n) are the same."""
    return re.sub(r"^s3[an]?://", "", uri).partition("/")[0]


def bucket_of_arn(arn: object) -> str | None:
    """Return the bucket of ``arn:aws:s3:::bucket``, and nothing for the ARN of anything else."""
    if not isinstance(arn, str):
        return None
    parts = arn.split(":", 5)
    plain = len(parts) == 6 and parts[0] == "arn" and parts[2] == "s3" and not parts[3] and not parts[4]
    return parts[5] if plain and _BUCKET.fullmatch(parts[5]) else None


def bucket_objection(name: str) -> str | None:
    """Return why a name is not that of a general purpose bucket, whose region can be asked; None when it is."""
    for ending, what in _NO_PLAIN_BUCKET.items():
        if name.endswith(ending):
            return what
    return None if _BUCKET.fullmatch(name) else "no bucket's name"
