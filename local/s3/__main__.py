"""``make store``: the local S3 store alone, to read the results of ``make run STORE=s3``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from local.s3.process import KEYS, StoreError, StoreProcess

STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}
DATA = Path(__file__).resolve().parents[2] / ".local" / "s3"
LOCAL_KEY = "local"
"""Both keys of the store of a local run; it listens on loopback only."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the store until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="make store",
        description="Run the local S3 store (SeaweedFS) on loopback, until Ctrl-C; its data stays.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the store's data")
    parser.add_argument("--port", type=int, default=0, help="port of S3; 0 takes a free one")
    options = parser.parse_args(argv)
    # Blocked before the start of the store: a Ctrl-C during the start takes effect at sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        environment = os.environ | dict.fromkeys(KEYS, LOCAL_KEY)
        with StoreProcess(options.data, port=options.port, environment=environment) as store:
            sys.stdout.write(f"{how_to_read(store.url)}\nCtrl-C ends it.\n")
            sys.stdout.flush()
            signal.sigwait(STOP_SIGNALS)
    except StoreError as error:
        sys.stderr.write(f"make store: {error}\n")
        return 2
    return 0


def how_to_read(url: str) -> str:
    """Return instructions for reading the store."""
    options = {"key": LOCAL_KEY, "secret": LOCAL_KEY, "client_kwargs": {"endpoint_url": url}}
    return (
        f"S3 at {url}, keys {LOCAL_KEY} and {LOCAL_KEY}\n"
        f"  pandas.read_parquet('s3://fruits/results', storage_options={options})\n"
        f"  AWS_ACCESS_KEY_ID={LOCAL_KEY} AWS_SECRET_ACCESS_KEY={LOCAL_KEY} aws --endpoint-url {url} s3 ls s3://fruits/"
    )


if __name__ == "__main__":
    raise SystemExit(main())
