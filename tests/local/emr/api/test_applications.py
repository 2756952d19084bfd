"""Every application of a described cluster has a version: that of its release."""

from __future__ import annotations

import pytest

from local.emr.api.applications import UNKNOWN, applications_of, describe_application
from local.emr.clusters.validation import release_labels


# Each version is that of the EMR Release Guide: the history of the application, or the page of the release.
@pytest.mark.parametrize(
    ("label", "name", "version"),
    [
        ("emr-4.7.1", "Spark", "1.6.1"),
        ("emr-4.7.2", "Spark", "1.6.2"),
        ("emr-5.0.0", "Hadoop", "2.7.2"),
        ("emr-5.0.3", "Hadoop", "2.7.3"),
        ("emr-5.7.0", "Spark", "2.1.1"),
        ("emr-5.36.2", "Hive", "2.3.9"),
        ("emr-6.5.0", "Spark", "3.1.2"),
        ("emr-6.14.0", "Hadoop", "3.3.3"),
        ("emr-6.15.0", "Hadoop", "3.3.6"),
        ("emr-7.7.0", "Hadoop", "3.4.0"),
        ("emr-7.13.0", "Hadoop", "3.4.2"),
        ("emr-7.12.0", "Hadoop", "3.4.1"),
        ("emr-7.12.0", "Spark", "3.5.6"),
        ("emr-7.10.0", "Spark", "3.5.5"),
        ("emr-5.36.2", "Hadoop", "2.10.1"),
        ("emr-7.12.0", "Hive", "3.1.3"),
        ("emr-spark-8.0.0", "Spark", "4.0.2"),
        ("emr-spark-8.1.0", "Spark", "4.1.1"),
        ("emr-7.12.0", "JupyterHub", UNKNOWN),
    ],
)
def test_applications_have_the_version_of_the_release(label: str, name: str, version: str) -> None:
    assert describe_application({"Name": name}, label) == {"Name": name, "Version": version}
    assert describe_application({"Name": name.lower()}, label)["Version"] == version


def test_a_version_in_the_request_is_kept() -> None:
    assert describe_application({"Name": "spark", "Version": "1"}, "emr-7.12.0") == {"Name": "Spark", "Version": "1"}


def test_every_release_has_versions_of_its_applications() -> None:
    for label in release_labels("eu-west-3"):
        names = ("Spark",) if label.startswith("emr-spark-") else ("Spark", "Hadoop", "Hive")
        assert [item["Name"] for item in applications_of(label)] == list(names), label
