"""The reports page: behind Airflow's login on every route, and nothing but reports comes out of it."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

ROOT = Path(__file__).resolve().parents[2]

SLUG, OLDER = "20261122T120000Z-0123abcd", "20261121T120000Z-0123abcd"


class Browser:
    """Asks an application for pages, and follows no redirection."""

    def __init__(self, app: FastAPI, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
                return await client.get(self._prefix + path, headers=headers)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def plugin() -> Any:
    """The plugin's module, loaded by its path as Airflow does."""
    spec = importlib.util.spec_from_file_location("fruit_reports", ROOT / "plugins" / "fruit_reports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(plugin: Any) -> FastAPI:
    """The application that the plugin mounts."""
    [record] = plugin.FruitReportsPlugin().fastapi_apps
    return record["app"]


@pytest.fixture
def strangers(plugin: Any, page: FastAPI) -> Iterator[Browser]:
    """Somebody without a login, at the page as Airflow mounts it."""
    from airflow.api_fastapi.app import create_auth_manager

    create_auth_manager().init()
    airflow = FastAPI()
    for record in plugin.FruitReportsPlugin().fastapi_apps:
        airflow.mount(record["url_prefix"], record["app"])
    yield Browser(airflow, plugin.URL_PREFIX)
    page.dependency_overrides.clear()


@pytest.fixture
def user(page: FastAPI, strangers: Browser) -> Browser:
    """Somebody who may see the DAG's runs."""
    [access] = page.router.dependencies
    page.dependency_overrides[access.dependency] = lambda: None
    return strangers


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    monkeypatch.setenv("FRUITS_LAKE", f"file://{tmp_path}")
    monkeypatch.setenv("FRUITS_AWS_CONN_ID", "none")
    for slug in (OLDER, SLUG):
        (tmp_path / "runs" / slug).mkdir(parents=True)
        (tmp_path / "runs" / slug / "report.html").write_text(f"<h1>é {slug}</h1>", encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("path", ["/", f"/{SLUG}", "/logs/j-1/s-1", "/nonsense"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer forged"}, {"Cookie": "_token=forged"}])
def test_nothing_is_shown_without_a_login(strangers: Browser, path: str, headers: dict[str, str]) -> None:
    response = strangers.get(path, headers=headers)
    assert response.status_code in {401, 403}
    assert SLUG not in response.text


def test_every_route_asks_for_the_login(page: FastAPI) -> None:
    routes = [route for route in page.routes if isinstance(route, APIRoute)]
    assert len(routes) == 3
    [access] = page.router.dependencies
    for route in routes:
        assert access.dependency in [item.call for item in route.dependant.dependencies], f"{route.path} is open to all"


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize(("allowed", "status"), [(False, 403), (True, 200)])
def test_login_is_not_enough_without_the_right_to_see_the_runs(
    page: FastAPI, strangers: Browser, monkeypatch: pytest.MonkeyPatch, allowed: bool, status: int
) -> None:
    from airflow.api_fastapi.core_api import security

    asked: list[dict[str, Any]] = []

    class AuthManager:
        def is_authorized_dag(self, **question: Any) -> bool:
            asked.append(question)
            return allowed

    monkeypatch.setattr(security, "get_auth_manager", AuthManager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda _: None)
    page.dependency_overrides[security.get_user] = lambda: "somebody"
    assert strangers.get("/").status_code == status
    assert asked[0]["details"].id == "fruit_features"
    assert asked[0]["method"] == "GET"


@pytest.mark.usefixtures("lake")
def test_reports_are_listed_the_newest_first(user: Browser) -> None:
    page = user.get("/").text
    assert 0 < page.index(SLUG) < page.index(OLDER)


def test_runs_without_a_report_and_other_folders_are_not_listed(user: Browser, lake: Path) -> None:
    (lake / "runs" / "20261123T120000Z-0123abcd").mkdir()
    (lake / "runs" / "notes").mkdir()
    (lake / "runs" / "notes" / "report.html").touch()
    page = user.get("/").text
    assert "20261123" not in page
    assert "notes" not in page


def test_lake_without_runs_has_an_empty_list(user: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    monkeypatch.setenv("FRUITS_LAKE", f"file://{tmp_path}/new")
    monkeypatch.setenv("FRUITS_AWS_CONN_ID", "none")
    assert "No run has published yet" in user.get("/").text


@pytest.mark.usefixtures("lake")
def test_report_is_shown_as_it_was_written(user: Browser) -> None:
    response = user.get(f"/{SLUG}")
    assert response.text == f"<h1>é {SLUG}</h1>"
    assert response.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.usefixtures("lake")
def test_run_without_a_report_is_not_found(user: Browser) -> None:
    response = user.get("/20990101T000000Z-00000000")
    assert response.status_code == 404
    assert "20990101T000000Z-00000000 has no report" in response.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/%2e%2e",
        "/..%2f..%2fsecret",
        "/%2e%2e%2fsecret",
        "/current.json",
        f"/{SLUG}%0a",
        f"/{SLUG}%2f..%2f..",
        f"/{SLUG}/report.json",
        f"/x{SLUG}",
    ],
)
def test_no_other_file_can_be_asked_for(user: Browser, lake: Path, path: str) -> None:
    (lake / "secret").mkdir()
    (lake / "secret" / "report.html").write_text("SECRET")
    (lake / "report.html").write_text("SECRET")
    response = user.get(path)
    assert response.status_code in {307, 404, 422}
    assert "SECRET" not in response.text


def test_missing_setting_is_told_as_such(user: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_PROFILE", "production")
    response = user.get("/")
    assert response.status_code == 503
    assert "FRUITS_PROFILE='production'" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/", f"/{SLUG}"])
def test_lake_that_is_not_set_is_told_as_such(user: Browser, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    response = user.get(path)
    assert response.status_code == 503
    assert "FRUITS_LAKE" in response.json()["detail"]


def test_entry_in_the_navigation_leads_to_the_page(plugin: Any) -> None:
    [view] = plugin.FruitReportsPlugin.external_views
    assert view["href"] == f"{plugin.URL_PREFIX}/"
    assert plugin.FruitReportsPlugin().fastapi_apps[0]["url_prefix"] == plugin.URL_PREFIX


def test_tasks_do_not_pay_for_the_page() -> None:
    """Every task's process loads every plugin: the page's web framework must wait for the API server."""
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('fruit_reports', 'plugins/fruit_reports.py')\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "import airflow.plugins_manager\n"
        "before = set(sys.modules)\n"
        "spec.loader.exec_module(module)\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded & {'fastapi', 'starlette', 'include'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]"), done.stdout


def test_logs_of_a_step_are_shown_as_text(user: Browser, lake: Path) -> None:
    folder = lake / "logs" / "j-1" / "steps" / "s-1"
    folder.mkdir(parents=True)
    (folder / "stdout.gz").write_bytes(gzip.compress("progress é <b>\n".encode()))
    response = user.get("/logs/j-1/s-1")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert f"==== file://{folder}/stdout.gz\nprogress é <b>" in response.text
    assert f"==== file://{folder}/stderr.gz\n(not there" in response.text


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("path", ["/logs/j-1/..", "/logs/j-1/s-1%2F..", "/logs/x/s-1", "/logs/j-é/s-1", "/logs/j-1"])
def test_only_ids_of_clusters_and_steps_lead_to_logs(user: Browser, path: str) -> None:
    assert user.get(path).status_code in {404, 422}
