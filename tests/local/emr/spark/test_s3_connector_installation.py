"""The installation of Spark's S3 connector: Ivy fetches its jars from a mirror."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

import pytest

from local.emr.spark import s3_connector
from local.emr.spark.s3_connector import (
    MIRROR,
    ConnectorError,
    connector_jars,
    install,
    main,
)

pytestmark = pytest.mark.slow

JARS = {
    "org.fruits:apple:1.2.3": b"apple",
    "org.fruits.tropical:mango-es_2.13:4.5": b"mango",
    "pear:pear:0.1-b2": b"pear",
}
UNREACHABLE = "http://127.0.0.1:1/"


def jar_bytes(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as jar:
        jar.writestr(zipfile.ZipInfo("content"), content)
    return stream.getvalue()


class Mirror:
    """A mirror of Maven Central with three small jars, and their lock, cache and destination folder."""

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

    def make_unreachable(self) -> None:
        """Make the mirror unreachable."""
        self.environ[MIRROR] = UNREACHABLE


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
    mirror.make_unreachable()
    (mirror.folder / "apple-1.2.3.jar").unlink()
    (mirror.folder / "pear-0.1-b2.jar").write_bytes(b"hal")
    (mirror.folder / "apple-1.2.2.jar").write_bytes(b"of an earlier lock")
    assert connector_jars(mirror.folder) != []
    mirror.install()
    assert files(mirror.folder) == EXPECTED


def test_a_complete_folder_does_not_change(mirror: Mirror) -> None:
    mirror.install()
    before = mirror.folder.stat().st_ino
    mirror.make_unreachable()
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


def test_a_jar_with_another_checksum_is_refused_and_nothing_is_installed(mirror: Mirror) -> None:
    mirror.path("mango").write_bytes(jar_bytes(b"something else"))
    with pytest.raises(ConnectorError, match=r"1 of 3 jars .*not the locked ones: mango-es_2\.13-4\.5\.jar\. Set"):
        mirror.install()
    assert not mirror.folder.exists()
    assert files(mirror.cache).keys() == {"apple-1.2.3.jar", "pear-0.1-b2.jar"}, "the right jars are cached"
    mirror.path("mango").write_bytes(jar_bytes(b"mango"))
    mirror.install()
    assert files(mirror.folder) == EXPECTED


def test_a_failed_fetch_keeps_the_earlier_jars(mirror: Mirror) -> None:
    mirror.folder.mkdir(parents=True)
    (mirror.folder / "apple-1.2.2.jar").write_bytes(b"of an earlier lock")
    mirror.path("pear").unlink()
    with pytest.raises(ConnectorError, match=r"pear-0\.1-b2\.jar"):
        mirror.install()
    assert files(mirror.folder) == {"apple-1.2.2.jar": b"of an earlier lock"}


def test_an_unreachable_mirror_is_an_error_of_the_command(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror.make_unreachable()
    for name, value in mirror.environ.items():
        monkeypatch.setenv(name, value)
    assert main(["--folder", str(mirror.folder)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(
        "3 of 3 jars of Spark's S3 connector could not be fetched from Maven Central, or are not"
    )
    assert "apple-1.2.3.jar, mango-es_2.13-4.5.jar, pear-0.1-b2.jar." in output.err
    assert f"Set {MIRROR} to a mirror's URL" in output.err
    assert UNREACHABLE.rstrip("/") in output.err, "the URL"
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
