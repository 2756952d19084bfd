"""A simulated node for the bootstrap action: stand-ins for `aws`, `sudo` and `python3.11` on this machine."""

from __future__ import annotations

import platform
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pip
import pytest

from include.artifacts.bundle import PROJECT
from include.artifacts.wheelhouse import CACHE, RECORD_FILE, requirements_digest

SCRIPT = PROJECT / "include" / "cluster" / "bootstrap_node.sh"
MACHINE = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
HOUSE = CACHE / requirements_digest()

needs_wheelhouse = pytest.mark.skipif(
    not (HOUSE / RECORD_FILE).exists(), reason=f"{HOUSE} does not exist: `make wheels` downloads it (240 MB)"
)

AWS = """#!/bin/bash
# `aws s3 cp` with the folder $BUCKET as the bucket; the first $BROKEN copies fail.
echo "$*" >> "$BUCKET.log"
if [ "$(wc -l < "$BUCKET.log")" -le "${BROKEN:-0}" ]; then echo "fatal error: SlowDown" >&2; exit 1; fi
[ "$1 $2 $3 $4 $5" = "s3 cp --only-show-errors --region eu-west-3" ] || { echo "unexpected: $*" >&2; exit 2; }
shift 5
recursive=; if [ "$1" = --recursive ]; then recursive=yes; shift; fi
source="$BUCKET/${1#s3://bucket/}"
if [ -n "$recursive" ]; then
  # The real command also succeeds if the prefix is empty.
  [ ! -d "$source" ] || cp "$source"/* "$2"
else
  cp "$source" "$2" || { echo "fatal error: HeadObject 404" >&2; exit 1; }
fi
"""
SUDO = '#!/bin/bash\necho "$*" >> "$BUCKET.sudo"\nexec "$@"\n'


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(stat.S_IRWXU)


PYTHON = f'#!/bin/bash\nexec {sys.executable} "$@"\n'
QUICK_PYTHON = f"""#!/bin/bash
# Like `-m venv`, but links this environment's pip instead of installing it, which takes seconds.
{sys.executable} "$@" --without-pip || exit
ln -s {Path(pip.__file__).parent} "${{@: -1}}"/lib/python3.11/site-packages/pip
"""


class Node:
    """A node with this machine's architecture: an empty folder for the virtual environment, and a folder as bucket.

    Parameters
    ----------
    folder : Path
        Folder in which the node is created.
    quick : bool
        Whether to link pip into the virtual environment instead of installing it.
    """

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.home, self.bucket, self.bin = folder / "opt", folder / "bucket", folder / "bin"
        self.wheels = self.bucket / "wheels" / "digest" / MACHINE
        (self.bucket / "code").mkdir(parents=True)
        self.wheels.mkdir(parents=True)
        program(self.bin, "aws", AWS)
        program(self.bin, "sudo", SUDO)
        program(self.bin, "python3.11", QUICK_PYTHON if quick else PYTHON)

    @property
    def python(self) -> Path:
        return self.home / "bin" / "python"

    def bootstrap(self, **environment: str) -> subprocess.CompletedProcess[str]:
        arguments = ("s3://bucket/code/requirements-cluster.txt", "s3://bucket/wheels/digest", "eu-west-3")
        return subprocess.run(
            ["bash", str(SCRIPT), *arguments],
            env={
                # The bucket is the only source of packages, whatever the configuration of this machine's pip.
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "BUCKET": str(self.bucket),
                "FRUITS_NODE_HOME": str(self.home),
                "FRUITS_NODE_PAUSE": "0",
                "TMPDIR": str(self.bucket.parent),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )


def real_node(folder: Path) -> Node:
    """Return a node on which the script installed the real wheelhouse, and nothing else."""
    node = Node(folder)
    node.wheels.rmdir()
    node.wheels.symlink_to(HOUSE / MACHINE)
    shutil.copyfile(PROJECT / "requirements-cluster.txt", node.bucket / "code" / "requirements-cluster.txt")
    done = node.bootstrap()
    assert done.returncode == 0, done.stderr
    return node
