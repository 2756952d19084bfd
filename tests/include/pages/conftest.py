"""The pages as Airflow mounts them, and browsers that ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from include.reports.report import report_line
from include.settings.addresses import PAGES

SLUG, OLDER = "20261122T120000Z-0123abcd", "20261121T120000Z-0123abcd"


class Browser:
    """A client that follows no redirection."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app)

    def get(self, path: str, **headers: str) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://airflow") as client:
                return await client.get(PAGES + path, headers=headers)

        return asyncio.run(send())


@pytest.fixture(scope="session")
def pages() -> FastAPI:
    from include.pages.app import app

    return app


@pytest.fixture(scope="session")
def mounted(pages: FastAPI) -> Browser:
    from airflow.api_fastapi.app import create_auth_manager

    create_auth_manager().init()
    airflow = FastAPI()
    airflow.mount(PAGES, pages)
    return Browser(airflow)


@pytest.fixture
def anonymous(pages: FastAPI, mounted: Browser) -> Iterator[Browser]:
    """A browser without a login."""
    yield mounted
    pages.dependency_overrides.clear()


@pytest.fixture
def airflow_runs(pages: FastAPI) -> dict[str, Any]:
    """The runs that Airflow has, by id: a stand-in of its database."""
    from include.pages import app

    found: dict[str, Any] = {}
    pages.dependency_overrides[app._active_runs] = lambda: [run for run in found.values() if run.is_active]
    pages.dependency_overrides[app._run_of] = lambda run_id: found.get(run_id)
    return found


@pytest.fixture
def user(pages: FastAPI, anonymous: Browser, airflow_runs: dict[str, Any]) -> Browser:
    """A browser of a user who may see the DAG's runs and logs."""
    from include.pages import guard

    for access in (guard.READ_RUNS, guard.READ_LOGS):
        pages.dependency_overrides[access] = lambda: None
    return anonymous


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "lake"
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    monkeypatch.setenv("FRUITS_LAKE", f"file://{root}")
    monkeypatch.setenv("FRUITS_AWS_CONN_ID", "none")
    for slug in (OLDER, SLUG):
        write_file(root / "runs" / slug / "report.html", f"<h1>é {slug}</h1>")
    return root


def write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_report(lake: Path, report: Any) -> None:
    path = lake / "reports" / f"run={report['run']}" / "report.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(report_line(report))
