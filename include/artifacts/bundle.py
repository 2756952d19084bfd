"""The code bundle: the files that a run uploads for the cluster. The digest of their sources names their folder."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from spark_jobs.sources import sources_digest

PROJECT = Path(__file__).resolve().parents[2]
"""The folder that contains ``include`` and ``spark_jobs``."""

JOBS_ZIP = "spark_jobs.zip"
BOOTSTRAP_FILE = "bootstrap_node.sh"
REQUIREMENTS_FILE = "requirements-cluster.txt"
ENTRYPOINTS = ("featurize", "pca")

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""A fixed time, the earliest that a zip can hold: the same sources then give the same bytes."""


@dataclass(frozen=True)
class Bundle:
    """Files by name, and the digest of their sources, which is the version of the code.

    Attributes
    ----------
    digest : str
        Of all sources. It does not depend on how the zip is compressed, which differs between builds of zlib.
    jobs : str
        Of the package ``spark_jobs``; the jobs report the digest of what they ran (:mod:`spark_jobs.sources`).
    files : dict
        The content of each file.
    """

    digest: str
    jobs: str
    files: dict[str, bytes]


def build_bundle(root: Path = PROJECT) -> Bundle:
    """Build the bundle from the sources.

    Parameters
    ----------
    root : Path, optional
        The folder that contains ``spark_jobs``, ``include`` and ``requirements-cluster.txt``; default: this project.

    Raises
    ------
    FileNotFoundError
        When a source is missing; the message names it.
    """
    jobs = root / "spark_jobs"
    sources = sorted(path for path in jobs.rglob("*.py") if path.is_file())
    if not sources:
        raise FileNotFoundError(f"no Python file under {jobs}: deploy spark_jobs/ next to include/")
    files = {JOBS_ZIP: zip_sources(root, sources)}
    files |= {f"{name}.py": (jobs / "entrypoints" / f"{name}.py").read_bytes() for name in ENTRYPOINTS}
    files[BOOTSTRAP_FILE] = (root / "include" / "cluster" / BOOTSTRAP_FILE).read_bytes()
    files[REQUIREMENTS_FILE] = (root / REQUIREMENTS_FILE).read_bytes()
    jobs_digest = sources_digest(jobs)
    return Bundle(_digest(jobs_digest, files[BOOTSTRAP_FILE], files[REQUIREMENTS_FILE]), jobs_digest, files)


def zip_sources(root: Path, sources: list[Path]) -> bytes:
    """Return a reproducible zip of the sources: sorted names, fixed times, fixed modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(sources):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _ZIP_TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def _digest(jobs: str, *others: bytes) -> str:
    """Return the digest of the jobs' sources and of the other files."""
    total = hashlib.sha256(jobs.encode())
    for data in others:
        total.update(hashlib.sha256(data).digest())
    return total.hexdigest()[:16]
