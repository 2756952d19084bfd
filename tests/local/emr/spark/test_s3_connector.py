"""Spark's S3 connector: which jars, that they are the locked ones, and what steps get of it."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from local.emr.spark import s3_connector
from local.emr.spark.commands import Target, translate
from local.emr.spark.s3_connector import (
    LOCK,
    MIRROR,
    ConnectorError,
    Jar,
    connector_folder,
    connector_jars,
    connector_settings,
    install,
    main,
    read_lock,
)

JARS = {
    "org.fruits:apple:1.2.3": b"apple",
    "org.fruits.tropical:mango-es_2.13:4.5": b"mango",
    "pear:pear:0.1-b2": b"pear",
}
NOWHERE = "http://127.0.0.1:1/"
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


def test_connector_is_of_pysparks_own_versions() -> None:
    """Hadoop's parts must be of one version; pyspark's jars tell which. A new pyspark needs a new lock."""
    spark = importlib.util.find_spec("pyspark")
    assert spark is not None
    assert spark.origin is not None
    (hadoop,) = Path(spark.origin).parent.glob("jars/hadoop-client-api-*.jar")
    (core,) = Path(spark.origin).parent.glob("jars/spark-core_*.jar")
    assert locked()["hadoop-aws"].version == hadoop.stem.removeprefix("hadoop-client-api-")
    scala = core.stem.removeprefix("spark-core_").partition("-")[0]
    assert locked()[f"spark-hadoop-cloud_{scala}"].version == version("pyspark")


def test_aws_sdk_is_of_one_version_and_not_the_bundle() -> None:
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
def test_line_that_does_not_pin_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{line!r}: expected group:artifact:version sha256:digest")):
        read_lock(f"# comment\n\n{line}\n")


def jar_bytes(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as jar:
        jar.writestr(zipfile.ZipInfo("content"), content)
    return stream.getvalue()


class Mirror:
    """A mirror of Maven Central with three small jars, a lock of them, and a cache and a folder of one's own."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root / "mirror"
        self.folder = root / "env ironment" / "s3-connector"
        self.cache = root / "cache" / "fruit-features" / "jars"
        self.environ = {"PATH": str(Path("/usr/bin")), "HOME": str(root), "XDG_CACHE_HOME": str(root / "cache")}
        self.environ |= {
            name: value for name, value in s3_connector.os.environ.items() if name in ("PATH", "JAVA_HOME")
        }
        self.environ[MIRROR] = f"file://{self.root}/"
        lines = []
        for name, content in JARS.items():
            group, artifact, number = name.split(":")
            path = self.root / group.replace(".", "/") / artifact / number / f"{artifact}-{number}.jar"
            path.parent.mkdir(parents=True)
            path.write_bytes(jar_bytes(content))
            lines.append(f"{name} sha256:{hashlib.sha256(jar_bytes(content)).hexdigest()}")
        lock = root / "own.lock"
        lock.write_text("\n".join(["# own", *lines, ""]))
        patch.setattr(s3_connector, "LOCK", lock)

    def install(self) -> None:
        install(self.folder, self.environ)

    def path(self, artifact: str) -> Path:
        (path,) = self.root.rglob(f"{artifact}-*.jar")
        return path

    def unplug(self) -> None:
        """Let nothing be fetched from now on."""
        self.environ[MIRROR] = NOWHERE


EXPECTED = {
    "apple-1.2.3.jar": jar_bytes(b"apple"),
    "mango-es_2.13-4.5.jar": jar_bytes(b"mango"),
    "pear-0.1-b2.jar": jar_bytes(b"pear"),
}


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    return Mirror(tmp_path, monkeypatch)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_jars_are_fetched_once_and_the_folder_is_repaired_from_the_cache(mirror: Mirror) -> None:
    mirror.install()
    assert files(mirror.folder) == files(mirror.cache) == EXPECTED
    assert [path.name for path in mirror.folder.parent.iterdir()] == ["s3-connector"], "no unfinished folder is left"
    assert mirror.folder.stat().st_mode & 0o777 == 0o755, "another user's endpoint reads it too"
    mirror.unplug()
    (mirror.folder / "apple-1.2.3.jar").unlink()
    (mirror.folder / "pear-0.1-b2.jar").write_bytes(b"hal")
    (mirror.folder / "apple-1.2.2.jar").write_bytes(b"of an earlier lock")
    assert connector_jars(mirror.folder) != []
    mirror.install()
    assert files(mirror.folder) == EXPECTED


def test_folder_that_is_whole_is_left_alone(mirror: Mirror) -> None:
    mirror.install()
    before = mirror.folder.stat().st_ino
    mirror.unplug()
    for path in mirror.cache.iterdir():
        path.unlink()
    mirror.install()
    assert mirror.folder.stat().st_ino == before


def test_damaged_jar_in_the_cache_is_fetched_again(mirror: Mirror) -> None:
    mirror.cache.mkdir(parents=True)
    (mirror.cache / "apple-1.2.3.jar").write_bytes(b"damaged")
    (mirror.cache / "pear-0.1-b2.jar").write_bytes(jar_bytes(b"pear"))
    mirror.path("pear").unlink()  # the cache has it: the mirror is not asked
    mirror.install()
    assert files(mirror.folder) == files(mirror.cache) == EXPECTED


def test_other_bytes_are_refused_and_named_and_nothing_is_installed(mirror: Mirror) -> None:
    mirror.path("mango").write_bytes(jar_bytes(b"something else"))
    with pytest.raises(ConnectorError, match=r"1 of 3 jars .*not the locked ones: mango-es_2\.13-4\.5\.jar\. Set"):
        mirror.install()
    assert not mirror.folder.exists()
    assert files(mirror.cache).keys() == {"apple-1.2.3.jar", "pear-0.1-b2.jar"}, "what was right is kept"
    mirror.path("mango").write_bytes(jar_bytes(b"mango"))
    mirror.install()
    assert files(mirror.folder) == EXPECTED


def test_folder_of_earlier_jars_survives_a_fetch_that_fails(mirror: Mirror) -> None:
    mirror.folder.mkdir(parents=True)
    (mirror.folder / "apple-1.2.2.jar").write_bytes(b"of an earlier lock")
    mirror.path("pear").unlink()
    with pytest.raises(ConnectorError, match=r"pear-0\.1-b2\.jar"):
        mirror.install()
    assert files(mirror.folder) == {"apple-1.2.2.jar": b"of an earlier lock"}


def test_mirror_out_of_reach_is_an_error_of_the_command(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.unplug()
    for name, value in mirror.environ.items():
        monkeypatch.setenv(name, value)
    assert main(["--folder", str(mirror.folder)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(
        "3 of 3 jars of Spark's S3 connector could not be fetched from Maven Central, or are not"
    )
    assert "apple-1.2.3.jar, mango-es_2.13-4.5.jar, pear-0.1-b2.jar." in told.err
    assert f"Set {MIRROR} to a mirror's URL" in told.err
    assert NOWHERE.rstrip("/") in told.err, "what was tried"
    assert not mirror.folder.exists()
    assert files(mirror.cache) == {}


def test_command_installs(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in mirror.environ.items():
        monkeypatch.setenv(name, value)
    assert main(["--folder", str(mirror.folder)]) == 0
    assert files(mirror.folder) == EXPECTED


def test_missing_java_is_an_error_of_the_command(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in mirror.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    assert main(["--folder", str(mirror.folder)]) == 1
    assert f"{tmp_path}/no-java/bin/java" in capsys.readouterr().err


def test_missing_pyspark_is_named(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConnectorError, match=r"pyspark, .*, is not installed: install requirements\.txt"):
        mirror.install()


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
def test_settings_are_of_the_environments_store(tmp_path: Path, environ: dict[str, str], region: str) -> None:
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
