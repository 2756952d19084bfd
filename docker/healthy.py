"""Check the health of this container's service. Exit code 0 if healthy; otherwise 1, with the reason on stderr.

The script imports only the standard library and the database driver, because it runs every few seconds in every
container: importing Airflow for ``airflow jobs check`` would keep a core busy.

    healthy.py url http://localhost:8333/healthz       healthy if the URL responds with a success
    healthy.py job SchedulerJob                        healthy if this host's Airflow job sent a recent heartbeat
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

HEARTBEAT_SECONDS = 30
"""Maximum age of a heartbeat; Airflow's default for its scheduler, dag-processor and triggerer."""

NEWEST_HEARTBEAT = """
SELECT extract(epoch FROM now() - max(latest_heartbeat))
FROM job WHERE job_type = %s AND hostname = %s AND state = 'running'
"""


def check_url(url: str, timeout_seconds: float) -> str | None:
    """Return the problem of an HTTP service, None if it is healthy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy: the URL is in this container
    try:
        with opener.open(url, timeout=timeout_seconds):
            return None
    except (urllib.error.URLError, OSError) as error:
        return f"{url}: {error}"


def check_job(job_type: str, heartbeat_seconds: float | None) -> str | None:
    """Return the problem of an Airflow job, None if it is healthy.

    Parameters
    ----------
    job_type : str
        Airflow's name of the job, such as ``SchedulerJob``.
    heartbeat_seconds : float or None
        Age of its newest heartbeat; None without a heartbeat.
    """
    if heartbeat_seconds is None:
        return f"no running {job_type} on this host"
    if heartbeat_seconds > HEARTBEAT_SECONDS:
        return (
            f"the last heartbeat of {job_type} is {heartbeat_seconds:.0f} s old; at most {HEARTBEAT_SECONDS} expected"
        )
    return None


def heartbeat_age(job_type: str) -> float | None:
    """Return the age of the newest heartbeat of this host's job in seconds, None without a heartbeat."""
    import psycopg2

    parts = urlsplit(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    plain = urlunsplit(parts._replace(scheme="postgresql"))
    connection = psycopg2.connect(plain, connect_timeout=5)
    try:
        with connection.cursor() as cursor:
            cursor.execute(NEWEST_HEARTBEAT, [job_type, socket.gethostname()])
            row = cursor.fetchone()
    finally:
        connection.close()
    return None if row is None or row[0] is None else float(row[0])


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="healthy.py", description="Check the health of this container's service.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("url", help="a URL that must respond with a success").add_argument("target", metavar="URL")
    kinds.add_parser("job", help="an Airflow job that must send heartbeats").add_argument(
        "target", choices=("SchedulerJob", "DagProcessorJob", "TriggererJob")
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check."""
    options = read_options(argv)
    if options.kind == "url":
        problem = check_url(options.target, timeout_seconds=5)
    else:
        problem = check_job(options.target, heartbeat_age(options.target))
    if problem:
        sys.stderr.write(f"{problem}\n")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
