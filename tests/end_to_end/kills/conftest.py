from __future__ import annotations

from typing import Any

import pytest

from tests.forks import forkserver


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; it is known if the command line names this folder."""
    parser.addoption(
        "--operations",
        default="*",
        metavar="GLOB",
        help="interrupt only operations that match, such as '*insights*' after a file was added to them",
    )


@pytest.fixture
def operations_glob(request: pytest.FixtureRequest) -> str:
    """Return the pattern of the operations to interrupt."""
    return str(request.config.getoption("--operations", default="*"))


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that have imported everything, without a thread of the stores' clients."""
    return forkserver()
