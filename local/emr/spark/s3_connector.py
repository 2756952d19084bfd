"""Spark's S3A connector for steps on this machine: pinned jars from Maven Central, and the settings that use them.

pyspark has no S3 connector. (EMR has its own, and does not use this module.) The command ``python -m
local.emr.spark.s3_connector``, which ``make setup`` runs, fetches the jars of ``s3_connector.lock`` (10 MB) into a
cache, and copies them into this environment. Ivy, which is part of pyspark, fetches them, as for ``spark-submit
--packages``. It resolves no dependencies: the lock lists all jars with their checksums.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

LOCK = Path(__file__).with_suffix(".lock")
LINE = re.compile(r"([\w.-]+):([\w.-]+):([\w.-]+) sha256:([0-9a-f]{64})")
MIRROR = "DEFAULT_ARTIFACT_REPOSITORY"
"""Environment variable of Spark: the URL of a mirror of Maven Central (org.apache.spark.util.MavenUtils, Spark 4.1)."""


class ConnectorError(RuntimeError):
    """The jars of the connector cannot be fetched; the message gives the reason."""


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The name of its file in a Maven repository."""
        return f"{self.artifact}-{self.version}.jar"

    def is_in(self, folder: Path) -> bool:
        """Return whether a folder has this jar with this checksum."""
        path = folder / self.file_name
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256


def connector_folder() -> Path:
    """Return the folder of this environment's jars, whether it exists or not."""
    return Path(sys.prefix) / "s3-connector"


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the cache of jars, which all environments of this user share."""
    cache = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "fruit-features" / "jars"


def read_lock(text: str) -> tuple[Jar, ...]:
    """Parse the lock.

    Raises
    ------
    ValueError
        If a line is not ``group:artifact:version sha256:digest``.
    """
    jars = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{line!r}: expected group:artifact:version sha256:digest")
        jars.append(Jar(*match.groups()))
    return tuple(jars)


def connector_jars(folder: Path) -> list[Path]:
    """Return the jars in a folder that :func:`install` created; empty if it does not exist."""
    return sorted(folder.glob("*.jar"))


def install(folder: Path, environ: Mapping[str, str]) -> None:
    """Replace a folder by one with all jars of the lock. Jars that are not in the cache are fetched.

    Raises
    ------
    ConnectorError
        If a jar cannot be fetched, or if its checksum is not that of the lock.
    """
    jars = read_lock(LOCK.read_text(encoding="utf-8"))
    if all(jar.is_in(folder) for jar in jars) and len(connector_jars(folder)) == len(jars):
        return
    cache = cache_folder(environ)
    missing = [jar for jar in jars if not jar.is_in(cache)]
    if missing:
        _fetch(missing, cache, environ)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for jar in jars:
            shutil.copyfile(cache / jar.file_name, unfinished / jar.file_name)
        unfinished.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _fetch(jars: Sequence[Jar], cache: Path, environ: Mapping[str, str]) -> None:
    """Fetch jars with Ivy, and store those with the right checksum in the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        folder = Path(scratch)
        (folder / "settings.xml").write_bytes(_ivy_settings(environ.get(MIRROR)))
        (folder / "ivy.xml").write_bytes(_ivy_module(jars))
        options = ["-settings", "settings.xml", "-ivy", "ivy.xml", "-cache", "cache", "-warn"]
        command = [_java(environ), "-cp", str(_ivy()), "org.apache.ivy.Main", *options]
        command += ["-retrieve", "jars/[artifact]-[revision].[ext]"]
        done = subprocess.run(command, cwd=folder, env=dict(environ), capture_output=True, text=True, check=False)
        wrong = [jar.file_name for jar in jars if not jar.is_in(folder / "jars")]
        for jar in jars:
            if jar.file_name not in wrong:
                (folder / "jars" / jar.file_name).replace(cache / jar.file_name)
    if wrong:
        output = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if line.strip())
        raise ConnectorError(
            f"{len(wrong)} of {len(jars)} jars of Spark's S3 connector could not be fetched from Maven Central, or are "
            f"not the locked ones: {', '.join(wrong[:3])}{', …' if wrong[3:] else ''}. Set {MIRROR} to a mirror's URL "
            f"where Maven Central is out of reach. Ivy's output ends with:\n{output[-1_500:]}"
        )


def _ivy_settings(mirror: str | None) -> bytes:
    settings = ElementTree.Element("ivysettings")
    ElementTree.SubElement(settings, "settings", defaultResolver="central")
    resolvers = ElementTree.SubElement(settings, "resolvers")
    # Without a root, this resolver uses Maven Central. The lock has the checksums.
    central = ElementTree.SubElement(
        resolvers, "ibiblio", name="central", m2compatible="true", usepoms="false", checksums=""
    )
    if mirror:
        central.set("root", mirror)
    return bytes(ElementTree.tostring(settings))


def _ivy_module(jars: Sequence[Jar]) -> bytes:
    module = ElementTree.Element("ivy-module", version="2.0")
    ElementTree.SubElement(module, "info", organisation="fruits", module="s3-connector")
    dependencies = ElementTree.SubElement(module, "dependencies")
    for jar in jars:
        names = {"org": jar.group, "name": jar.artifact, "rev": jar.version}
        ElementTree.SubElement(dependencies, "dependency", names, transitive="false", conf="default->default")
    return bytes(ElementTree.tostring(module))


def _java(environ: Mapping[str, str]) -> str:
    home = environ.get("JAVA_HOME")
    return f"{home}/bin/java" if home else "java"


def _ivy() -> Path:
    spark = importlib.util.find_spec("pyspark")
    found = sorted(Path(spark.origin).parent.glob("jars/ivy-*.jar")) if spark and spark.origin else []
    if not found:
        raise ConnectorError("pyspark, whose Ivy fetches the jars, is not installed: install requirements.txt")
    return found[0]


def connector_settings(jars: Sequence[Path], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the Spark settings for ``s3://`` URIs on this machine. On EMR, its own configuration does this.

    S3A implements ``s3://``. Its magic committer writes the files of a task as multipart uploads, which the commit of
    the job completes. So no file is visible before the commit, and no file is renamed.

    Parameters
    ----------
    jars : sequence of Path
        The jars of the connector; without them, there are no settings.
    environ : mapping
        The environment of the endpoint: ``AWS_ENDPOINT_URL_S3`` is the URL of the store.
    """
    endpoint = environ.get("AWS_ENDPOINT_URL_S3")
    if not jars or not endpoint:
        return {}
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "eu-west-3"
    commit = "org.apache.spark.internal.io.cloud"
    return {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": region,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": str(endpoint.startswith("https:")).lower(),
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider"
        ),
        # S3A retries while the store does not answer, but not forever.
        "spark.hadoop.fs.s3a.attempts.maximum": "5",
        "spark.hadoop.fs.s3a.committer.name": "magic",
        "spark.hadoop.mapreduce.outputcommitter.factory.scheme.s3": (
            "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory"
        ),
        "spark.sql.sources.commitProtocolClass": f"{commit}.PathOutputCommitProtocol",
        "spark.sql.parquet.output.committer.class": f"{commit}.BindingParquetOutputCommitter",
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m local.emr.spark.s3_connector",
        description="Fetch Spark's S3 connector (10 MB of jars, checked) for steps on this machine.",
        epilog=f"Cache: $XDG_CACHE_HOME/fruit-features/jars, ~/.cache by default. {MIRROR}: a mirror of Maven Central.",
    )
    parser.add_argument("--folder", type=Path, default=connector_folder(), help="where to put the jars")
    options = parser.parse_args(argv)
    try:
        install(options.folder.absolute(), os.environ)
    except (ConnectorError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
