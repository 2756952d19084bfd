"""Airflow's command line, after the import of the packages of the tasks: ``python -m local.airflow.preloaded``.

The scheduler forks the workers, and these fork the tasks: each would import the packages again, for 0.6 s of CPU
time. The project's own modules are not among them, so that a task runs the code that is on the disk when it starts.
"""

from __future__ import annotations

import importlib

PACKAGES = (
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.amazon.aws.operators.emr",
    "airflow.providers.amazon.aws.sensors.emr",
    "airflow.providers.standard.operators.python",
    "obstore.store",
)


def main() -> None:
    """Import the packages, then run Airflow's command line with the arguments of this process."""
    for package in PACKAGES:
        importlib.import_module(package)
    from airflow.__main__ import main as run_airflow

    run_airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
