"""Airflow's command line. It writes every host that the process connects to or resolves to a file.

Usage: audited_airflow.py AUDIT_FILE airflow-arguments…
       audited_airflow.py AUDIT_FILE rerun DATE CONF: runs the DAG with the run id of that date, the same each time
"""

import json
import os
import socket
import sys
from pathlib import Path


def main() -> None:
    audit_file = sys.argv.pop(1)

    def audit(event, arguments):
        if event == "socket.connect" and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
            note("connect", arguments[1][0])
        elif event == "socket.getaddrinfo":
            note("resolve", arguments[0])

    def note(what, host):
        with Path(audit_file).open("a", encoding="utf-8") as stream:
            stream.write(f"{what}\t{host.decode() if isinstance(host, bytes) else host}\n")

    sys.addaudithook(audit)
    if sys.argv[1] == "rerun":
        rerun(sys.argv[2], json.loads(sys.argv[3]))
        return
    from airflow.__main__ import main as airflow

    sys.argv[0] = "airflow"
    airflow()


def rerun(date, conf):
    """Run the DAG with the run id of a date; `airflow dags test DATE` would create a new run id each time."""
    from datetime import datetime

    from airflow.dag_processing.dagbag import DagBag

    when = datetime.fromisoformat(date)
    DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).dags["fruit_features"].test(
        run_after=when, logical_date=when, run_conf=conf
    )


if __name__ == "__main__":
    main()
