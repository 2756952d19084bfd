"""Spark's S3 connector: its locked jars, and the settings of steps."""

from __future__ import annotations

import importlib.util
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from local.emr.spark.commands import Target, translate
from local.emr.spark.s3_connector import (
    LOCK,
    Jar,
    connector_folder,
    connector_jars,
    connector_settings,
    read_lock,
)

STORE = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}


def locked() -> dict[str, Jar]:
    return {jar.artifact: jar for jar in read_lock(LOCK.read_text(encoding="utf-8"))}


def test_every_line_of_the_lock_is_a_jar_with_its_checksum() -> None:
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    jars = read_lock(LOCK.read_text(encoding="utf-8"))
    assert len(jars) == len(lines) > 20
    for line, jar in zip(lines, jars, strict=True):
        assert line == f"{jar.group}:{jar.artifact}:{jar.version} sha256:{jar.sha256}"
        assert re.fullmatch(r"\d[\w.-]*", jar.version), "a version, not a range or a word"
    assert len({jar.file_name for jar in jars}) == len(jars)
    assert len({jar.sha256 for jar in jars}) == len(jars)


def test_connector_has_the_versions_of_pyspark() -> None:
    """All parts of Hadoop must have the version of pyspark's jars. A new pyspark needs a new lock."""
    spark = importlib.util.find_spec("pyspark")
    assert spark is not None
    assert spark.origin is not None
    (hadoop,) = Path(spark.origin).parent.glob("jars/hadoop-client-api-*.jar")
    (core,) = Path(spark.origin).parent.glob("jars/spark-core_*.jar")
    assert locked()["hadoop-aws"].version == hadoop.stem.removeprefix("hadoop-client-api-")
    scala = core.stem.removeprefix("spark-core_").partition("-")[0]
    assert locked()[f"spark-hadoop-cloud_{scala}"].version == version("pyspark")


def test_aws_sdk_has_one_version_and_no_bundle() -> None:
    jars = [jar for jar in locked().values() if jar.group == "software.amazon.awssdk"]
    assert len({jar.version for jar in jars}) == 1
    assert "bundle" not in locked()


@pytest.mark.skipif(
    not connector_jars(connector_folder()),
    reason="Spark's S3 connector could not be fetched from Maven Central (make setup STORE=s3 says why)",
)
def test_jars_of_this_environment_are_the_locked_ones_and_small() -> None:
    jars = read_lock(LOCK.read_text(encoding="utf-8"))
    assert all(jar.is_in(connector_folder()) for jar in jars), "run `make setup STORE=s3`"
    assert [path.name for path in connector_jars(connector_folder())] == sorted(jar.file_name for jar in jars)
    assert sum(path.stat().st_size for path in connector_jars(connector_folder())) < 12_000_000


@pytest.mark.parametrize(
    "line",
    [
        "org.fruits:apple:1.2.3",
        "org.fruits:apple sha256:" + "0" * 64,
        "org.fruits:apple:1.2.3 sha256:" + "0" * 63,
        "org.fruits:apple:1.2.3 sha256:" + "G" * 64,
        "org.fruits:apple:[1.0,) sha256:" + "0" * 64,
        "org.fruits:apple:1.2.3 md5:" + "0" * 64,
        "org.fruits:../apple:1.2.3 sha256:" + "0" * 64,
    ],
)
def test_line_without_a_version_or_checksum_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{line!r}: expected group:artifact:version sha256:digest")):
        read_lock(f"# comment\n\n{line}\n")


def test_no_setting_without_jars_or_without_a_store(tmp_path: Path) -> None:
    assert connector_settings(connector_jars(tmp_path / "not there"), STORE) == {}
    assert connector_settings([tmp_path / "a.jar"], {}) == {}
    assert connector_settings([tmp_path / "a.jar"], {"AWS_ENDPOINT_URL_S3": ""}) == {}


@pytest.mark.parametrize(
    ("environ", "region"),
    [
        ({}, "eu-west-3"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-west-1", "AWS_REGION": "eu-central-1"}, "eu-central-1"),
    ],
)
def test_settings_have_the_store_and_region(tmp_path: Path, environ: dict[str, str], region: str) -> None:
    settings = connector_settings([tmp_path / "a.jar"], STORE | environ)
    assert settings["spark.hadoop.fs.s3a.endpoint"] == "http://127.0.0.1:9000"
    assert settings["spark.hadoop.fs.s3a.endpoint.region"] == region
    assert settings["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "false"
    assert not any("key" in name or "secret" in name for name in settings), "keys are never on a command line"
    secure = connector_settings([tmp_path / "a.jar"], {"AWS_ENDPOINT_URL_S3": "https://store.example"})
    assert secure["spark.hadoop.fs.s3a.connection.ssl.enabled"] == "true"


def confs(argv: list[str], s3_settings: dict[str, str]) -> dict[str, str]:
    target = Target(spark_submit="spark-submit", master="local[*]", driver_memory_cap_mb=1, s3_settings=s3_settings)
    words = translate(argv, target)
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--conf"]
    assert len({setting.partition("=")[0] for setting in settings}) == len(settings), "each is set once"
    return dict(setting.split("=", 1) for setting in settings)


@pytest.mark.parametrize(
    "argv",
    [
        ["spark-submit", "s3://fruits/code/run.py"],
        ["spark-submit", "--py-files", "s3://fruits/code/jobs.zip", "run.py"],
        ["timeout", "3h", "spark-submit", "run.py", "--lake=s3://fruits"],
        ["spark-submit", "--conf", "spark.eventLog.dir=s3://fruits/logs", "run.py"],
    ],
)
def test_commands_that_name_s3_get_the_settings(argv: list[str], tmp_path: Path) -> None:
    settings = connector_settings([tmp_path / "a.jar"], STORE)
    assert settings.items() <= confs(argv, settings).items()


def test_other_commands_get_none(tmp_path: Path) -> None:
    settings = connector_settings([tmp_path / "a.jar"], STORE)
    argv = ["spark-submit", "file:///lake/run.py", "--lake=file:///lake"]
    assert confs(argv, settings) == confs(argv, {})
    target = Target(spark_submit="spark-submit", master="local", driver_memory_cap_mb=1, s3_settings=settings)
    assert translate(["cp", "s3://fruits/a", "b"], target) == ["cp", "s3://fruits/a", "b"]


def test_commands_own_setting_wins(tmp_path: Path) -> None:
    settings = connector_settings([tmp_path / "a.jar"], STORE)
    argv = ["spark-submit", "--conf", "spark.hadoop.fs.s3a.attempts.maximum=9", "s3://fruits/run.py"]
    found = confs(argv, settings)
    assert found["spark.hadoop.fs.s3a.attempts.maximum"] == "9"
    assert settings.items() - found.items() == {("spark.hadoop.fs.s3a.attempts.maximum", "5")}
