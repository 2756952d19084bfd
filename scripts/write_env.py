"""Write ``.env`` for the local stack from ``.env.example``, with fresh random secrets. Standard library only."""

from __future__ import annotations

import argparse
import base64
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

log = logging.getLogger(__name__)


def fernet_key() -> str:
    """Return 32 random bytes in URL-safe Base64 (the Fernet specification)."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def now() -> str:
    """Return the current time in UTC as YYYY-MM-DDTHH:MM:SSZ."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


VALUES: dict[str, Callable[[], str]] = {
    "UI_PASSWORD": lambda: secrets.token_urlsafe(12),
    "STORE_ACCESS_KEY": lambda: secrets.token_hex(10),
    "STORE_SECRET_KEY": lambda: secrets.token_urlsafe(32),
    "START_DATE": now,
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_urlsafe(48),
    "AIRFLOW_SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "AIRFLOW_FERNET_KEY": fernet_key,
    "POSTGRES_PASSWORD": lambda: secrets.token_urlsafe(24),
}
"""Maps each variable to the function that generates its value."""


def fill_in(template: str) -> str:
    """Return the template with generated values for its empty variables.

    Raises
    ------
    ValueError
        If the template does not have exactly one empty line for each variable.
    """
    text = template
    for name, value in VALUES.items():
        text, count = re.subn(rf"^{name}=$", lambda _, name=name, value=value: f"{name}={value()}", text, flags=re.M)
        if count != 1:
            raise ValueError(f"expected one line `{name}=` in the template, found {count}")
    return text


def write_env(template: Path, target: Path) -> None:
    """Write the file, readable by its owner only.

    Raises
    ------
    FileExistsError
        If the file exists: the stack's volumes were created with its secrets.
    """
    text = fill_in(template.read_text(encoding="utf-8"))
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="scripts/write_env.py", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / ".env", help="file to write (default: .env)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        write_env(ROOT / ".env.example", options.output)
    except FileExistsError:
        log.error(
            "%s exists and was not changed, because the stack's volumes were created with its passwords. To start from "
            "scratch, run docker compose down --volumes, delete the file, and run this command again.",
            options.output,
        )
        return 1
    log.info("%s was written. It contains the login of the Airflow UI: UI_USER and UI_PASSWORD.", options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
