"""One `make up` for all tests of this folder, since a service takes half a minute to start and stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.processes.ports import free_ports
from tests.end_to_end.conftest import snapshot
from tests.end_to_end.service.airflow_service import (
    Service,
    command,
    is_free,
    prepare_folder,
    processes_of,
    serving,
)


@pytest.fixture(scope="package")
def service(bench, database, tmp_path_factory) -> Iterator[Service]:
    """A service that the tests share. At its end, `make down` stops it and keeps the data."""
    folder = tmp_path_factory.mktemp("service")
    prepare_folder(folder, bench.models, database)
    port = free_ports(1)[0]
    with serving(folder, port) as service:
        yield service
        stopped = command("down", folder)
        assert stopped.returncode == 0, stopped.stdout
        assert processes_of(folder) == []
        assert is_free(port)
        assert "nothing is running" in command("down", folder).stdout
        assert (folder / "state" / "airflow" / "airflow.db").stat().st_size > 0, "down keeps the database"
        assert len(snapshot(folder / "lake")) in {0, 3}, "down keeps the lake"
