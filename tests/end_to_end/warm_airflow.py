"""Runs of the DAG in processes that are forked from one that has imported Airflow.

Airflow needs ten seconds of CPU time to import and to build its in-process API, more than the rest of a run that fails
early. The parent does that once; each child then gets an environment, a folder and a log of its own.

The parent reads a request per line, in JSON, from its standard input, and answers with the exit code of the child.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def warm_up() -> None:
    """Import what a run of the DAG imports, and build Airflow's in-process API. No thread may be left running."""
    import airflow.__main__
    import airflow.cli.commands.dag_command
    import airflow.dag_processing.dagbag  # noqa: F401
    import httpx
    import jsonschema.validators
    from airflow.sdk.execution_time.supervisor import in_process_api_server

    from local.airflow.preloaded import PACKAGES
    from tests import warm_clients  # noqa: F401 (each task creates clients)

    for package in PACKAGES:
        importlib.import_module(package)

    async def request() -> None:
        async with httpx.AsyncClient(transport=in_process_api_server().atransport, base_url="http://warm.up") as client:
            await client.get("/health")

    asyncio.run(request())
    # Each task validates each parameter, and checks its schema first: a quarter of the rest. Airflow checks the schemas
    # when it parses the DAG, in the runs that start as a person's do.
    jsonschema.validators.Draft202012Validator.check_schema = classmethod(lambda cls, schema, *args, **named: None)


def run(request: dict[str, Any]) -> int:
    """Fork a child for one run; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ.clear()
            os.environ.update(request["environ"])
            os.chdir(request["folder"])
            log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = request["argv"]
            from tests.end_to_end import audited_airflow

            audited_airflow.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Answer requests until standard input ends."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Airflow prints is not an answer
    warm_up()
    for line in sys.stdin:
        answers.write(f"{run(json.loads(line))}\n")
        answers.flush()


if __name__ == "__main__":
    main()
