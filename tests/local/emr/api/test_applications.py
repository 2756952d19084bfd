"""Every application of a described cluster has a version: that of its release."""

from __future__ import annotations

import pytest

from local.emr.api.applications import UNKNOWN, describe_application
from local.emr.clusters.validation import release_labels


@pytest.mark.parametrize(
    ("label", "name", "version"),
    [
        ("emr-7.13.0", "Hadoop", "3.4.2"),
        ("emr-7.12.0", "Hadoop", "3.4.1"),
        ("emr-7.12.0", "Spark", "3.5.6"),
        ("emr-7.10.0", "Spark", "3.5.5"),
        ("emr-5.36.2", "Hadoop", "2.10.1"),
        ("emr-7.12.0", "Hive", "3.1.3"),
        ("emr-spark-8.1.0", "Spark", "4.1.1"),
        ("emr-7.12.0", "JupyterHub", UNKNOWN),
    ],
)
def test_applications_have_the_version_of_the_release(label: str, name: str, version: str) -> None:
    assert describe_application({"Name": name}, label) == {"Name": name, "Version": version}
    assert describe_application({"Name": name.lower()}, label)["Version"] == version


def test_a_version_in_the_request_is_kept() -> None:
    assert describe_application({"Name": "spark", "Version": "1"}, "emr-7.12.0") == {"Name": "Spark", "Version": "1"}


def test_spark_and_hadoop_have_a_version_in_every_release_of_emr_5_5_and_later() -> None:
    for label in release_labels("eu-west-3"):
        if label.startswith(("emr-5", "emr-6", "emr-7")):
            for name in ("Spark", "Hadoop"):
                assert describe_application({"Name": name}, label)["Version"] != UNKNOWN, (label, name)
