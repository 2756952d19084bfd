"""The region that an AWS name or response implies; None if it is not certain. Pure."""

from __future__ import annotations

import re

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]+")
_ZONE = re.compile(rf"({_REGION.pattern})[a-z]")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

_NOT_GENERAL_PURPOSE = {
    ".mrap": "the alias of a multi-region access point, which spans regions",
    "-s3alias": "the alias of an access point, which hides its bucket",
    "--ol-s3": "the alias of an Object Lambda access point, which hides its bucket",
    "--x-s3": "a directory bucket, which does not report its region",
    "--table-s3": "a table bucket, which does not accept plain objects",
}
"""Suffixes that S3 reserves for resources other than general purpose buckets (S3 User Guide, "Bucket naming rules";
``.mrap``: naming rules of multi-region access points)."""


def region_or_none(value: object) -> str | None:
    """Return the value if it has the form of a region's name."""
    return value if isinstance(value, str) and _REGION.fullmatch(value) else None


def arn_region(arn: object) -> str | None:
    """Return the region of an ARN (``arn:partition:service:region:account:resource``)."""
    if not isinstance(arn, str):
        return None
    parts = arn.split(":", 5)
    return region_or_none(parts[3]) if len(parts) == 6 and parts[0] == "arn" else None


def zone_region(zone: object) -> str | None:
    """Return the region of an availability zone.

    Only availability zones count (``eu-west-3a``). Local and wavelength zones belong to a region but are located
    elsewhere: ``us-east-1-scl-1a`` is in Santiago de Chile (EC2 User Guide, "Local Zones").
    """
    match = _ZONE.fullmatch(zone) if isinstance(zone, str) else None
    return match.group(1) if match else None


def location_region(constraint: object) -> str | None:
    """Return the region of GetBucketLocation's ``LocationConstraint``.

    An empty constraint means us-east-1; ``EU`` is the old name of eu-west-1 (S3 API Reference, GetBucketLocation).
    """
    if constraint is None or constraint == "":
        return "us-east-1"
    return "eu-west-1" if constraint == "EU" else region_or_none(constraint)


def bucket_name(uri: str) -> str:
    """Return the bucket of ``s3://bucket[/folder]``, or of the same URI with the scheme s3a or s3n."""
    return re.sub(r"^s3[an]?://", "", uri).partition("/")[0]


def bucket_of_arn(arn: object) -> str | None:
    """Return the bucket of ``arn:aws:s3:::bucket``; None for the ARN of another resource."""
    if not isinstance(arn, str):
        return None
    parts = arn.split(":", 5)
    plain = len(parts) == 6 and parts[0] == "arn" and parts[2] == "s3" and not parts[3] and not parts[4]
    return parts[5] if plain and _BUCKET.fullmatch(parts[5]) else None


def bucket_objection(name: str) -> str | None:
    """Return why a name is not that of a general purpose bucket, which has one known region; None if it is."""
    for suffix, what in _NOT_GENERAL_PURPOSE.items():
        if name.endswith(suffix):
            return what
    return None if _BUCKET.fullmatch(name) else "not a valid bucket name"
