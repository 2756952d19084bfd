"""Prepare the stack before its services start: database, login, bucket, images, model.

The ``init`` service runs this script once at each ``docker compose up``. Each part does only what is still missing.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger("init")


def write_passwords(file: Path, user: str, password: str) -> None:
    """Write the password file of Airflow's SimpleAuthManager, readable only by its owner."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps({user: password}) + "\n", encoding="utf-8")
    unfinished.replace(file)


def commands(environ: Mapping[str, str]) -> list[list[str]]:
    """Return the commands to run, in order.

    Parameters
    ----------
    environ : mapping
        ``FRUITS_LAKE`` is the lake's root. ``IMAGES`` is the folder on the host that is mounted at ``/images``; if
        empty, a sample is generated.
    """
    prepare = [sys.executable, "-m", "local.images.prepare", "--lake", environ["FRUITS_LAKE"], "--state", "/state"]
    if environ.get("IMAGES"):
        prepare += ["--images", "/images"]
    return [[sys.executable, "-m", "airflow", "db", "migrate"], prepare]


def main() -> int:
    """Write the passwords and run all commands; return the exit code of the first command that fails."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stdout)
    environ = os.environ
    user = environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].partition(":")[0]
    write_passwords(Path(environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), user, environ["UI_PASSWORD"])
    for command in commands(environ):
        log.info("%s", " ".join(command))
        code = subprocess.run(command, check=False).returncode
        if code:
            log.error("the command failed with exit code %d; its output above has the reason", code)
            return code
    log.info("the stack is prepared")
    return 0


if __name__ == "__main__":
    sys.exit(main())
