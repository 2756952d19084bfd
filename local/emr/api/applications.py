"""The versions of the applications in the releases of EMR, which DescribeCluster answers. moto has recorded none.

The sources are AWS's: the release histories of Spark, Hadoop and Hive in the EMR Release Guide for 4.0 to 6.5; for
later releases also its pages of single releases, and those of the EMR Serverless User Guide. Not checked: Spark of 6.7,
6.9 and 7.2, Hadoop of 6.6 to 6.11, Hive of 6.7 and 6.9, and all of 7.14. The suffix of Amazon's own builds
(``3.5.5-amzn-0``) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.emr.clusters.validation import release_version

UNKNOWN = "0.0.0"
"""The version of an application that is not in the table: clients may need one, whatever it is."""


def _table(text: str) -> dict[str, str]:
    return dict(entry.split("=") for entry in text.split())


FIRST_RELEASES = {
    "Spark": _table(
        "4.0=1.4.1 4.1=1.5.0 4.2=1.5.2 4.3=1.6.0 4.5=1.6.1 4.7.2=1.6.2 4.8.3=1.6.3 5.0=2.0.0 5.0.3=2.0.1 5.2=2.0.2 "
        "5.3=2.1.0 5.6=2.1.1 5.8=2.2.0 5.11=2.2.1 5.13=2.3.0 5.16=2.3.1 5.18=2.3.2 5.20=2.4.0 5.24=2.4.2 5.25=2.4.3 "
        "5.27=2.4.4 5.30=2.4.5 5.31=2.4.6 5.32=2.4.7 5.34=2.4.8 6.0=2.4.4 6.1=3.0.0 6.2=3.0.1 6.3=3.1.1 6.4=3.1.2 "
        "6.6=3.2.0 6.7=3.2.1 6.8=3.3.0 6.10=3.3.1 6.11=3.3.2 6.12=3.4.0 6.13=3.4.1 7.0=3.5.0 7.2=3.5.1 7.4=3.5.2 "
        "7.6=3.5.3 7.8=3.5.4 7.9=3.5.5 7.11=3.5.6"
    ),
    "Hadoop": _table(
        "4.0=2.6.0 4.3=2.7.1 4.5=2.7.2 4.8.2=2.7.3 5.0=2.7.2 5.0.3=2.7.3 5.12=2.8.3 5.16=2.8.4 5.19=2.8.5 5.31=2.10.0 "
        "5.32=2.10.1 6.0=3.2.1 6.9=3.3.3 6.15=3.3.6 7.4=3.4.0 7.8=3.4.1 7.13=3.4.2"
    ),
    "Hive": _table(
        "4.0=1.0.0 5.0=2.1.0 5.3=2.1.1 5.8=2.3.0 5.10=2.3.1 5.11=2.3.2 5.15=2.3.3 5.20=2.3.4 5.25=2.3.5 5.28=2.3.6 "
        "5.31=2.3.7 5.34=2.3.8 5.35=2.3.9 6.0=3.1.2 6.7=3.1.3"
    ),
}
"""Versions by application and by the first release that has them."""

SPARK_RELEASES: dict[str, str] = {"8.0": "4.0.2", "8.1": "4.1.1"}
"""Versions of Spark in the releases ``emr-spark-…``, which have neither Hadoop nor Hive."""


def describe_application(requested: Mapping[str, Any], release_label: str) -> dict[str, Any]:
    """Return an Application of DescribeCluster: the requested one with the name and version of the release.

    A version in the request is kept. A release after the newest one of the table has the newest version.
    """
    name = next((known for known in FIRST_RELEASES if known.lower() == requested["Name"].lower()), requested["Name"])
    return {**requested, "Name": name, "Version": requested.get("Version") or _version(name, release_label)}


def applications_of(release_label: str) -> list[dict[str, str]]:
    """Return the SimplifiedApplications of a release, as far as the table has them."""
    versions = {name: _version(name, release_label) for name in FIRST_RELEASES}
    known = {name: version for name, version in versions.items() if version != UNKNOWN}
    if release_label.startswith("emr-spark-"):
        known = {"Spark": versions["Spark"]}
    return [{"Name": name, "Version": version} for name, version in known.items()]


def has_application(release_label: str, application: str) -> bool:
    """Return whether a release has an application: a name, or a name and a version (``spark@3.5.5``)."""
    name, _, version = application.partition("@")
    return any(
        found["Name"].lower() == name.lower() and version in ("", found["Version"])
        for found in applications_of(release_label)
    )


def _version(name: str, release_label: str) -> str:
    spark_only = release_label.startswith("emr-spark-")
    table = SPARK_RELEASES if spark_only and name == "Spark" else FIRST_RELEASES.get(name, {})
    release = release_version(release_label)
    older = [first for first in table if release_version(first) <= release]
    return table[max(older, key=release_version)] if older else UNKNOWN
