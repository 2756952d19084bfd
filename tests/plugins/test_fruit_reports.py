"""The page of reports requires Airflow's login on every route, and serves nothing but reports and logs."""

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

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

SLUG, OLDER = "20261122T120000Z-0123abcd", "20261121T120000Z-0123abcd"


class Browser:
    """A client that follows no redirection."""

    def __init__(self, app: FastAPI, prefix: str) -> None:
        self._transport, self._prefix = httpx.ASGITransport(app), prefix

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://airflow") as client:
                return await client.get(self._prefix + path, headers=headers)

        return asyncio.run(send())


@pytest.fixture(scope="module")
def plugin() -> Any:
    """The plugin's module, loaded by its path as Airflow does."""
    spec = importlib.util.spec_from_file_location("fruit_reports", ROOT / "plugins" / "fruit_reports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(plugin: Any) -> FastAPI:
    """The application of the plugin."""
    [record] = plugin.FruitReportsPlugin().fastapi_apps
    return record["app"]


@pytest.fixture(scope="module")
def mounted(plugin: Any, page: FastAPI) -> Browser:
    """A client of the application as Airflow mounts it."""
    from airflow.api_fastapi.app import create_auth_manager

    create_auth_manager().init()
    airflow = FastAPI()
    airflow.mount(plugin.URL_PREFIX, page)
    return Browser(airflow, plugin.URL_PREFIX)


@pytest.fixture
def anonymous(page: FastAPI, mounted: Browser) -> Iterator[Browser]:
    """A client without a login."""
    yield mounted
    page.dependency_overrides.clear()


@pytest.fixture
def user(page: FastAPI, anonymous: Browser) -> Browser:
    """A client of a user who may see the DAG's runs."""
    [access] = page.router.dependencies
    page.dependency_overrides[access.dependency] = lambda: None
    return anonymous


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
def test_nothing_is_shown_without_a_login(anonymous: Browser) -> None:
    for path in (
        "/",
        f"/{SLUG}",
        f"/{SLUG}/report.html",
        f"/{SLUG}/pca/insights/outliers.csv",
        "/logs/j-1/s-1",
        "/nonsense",
    ):
        for headers in ({}, {"Authorization": "Bearer forged"}, {"Cookie": "_token=forged"}):
            response = anonymous.get(path, headers=headers)
            assert response.status_code in {401, 403}, path
            assert SLUG not in response.text


def test_every_route_requires_the_login(page: FastAPI) -> None:
    routes = [route for route in page.routes if isinstance(route, APIRoute)]
    assert len(routes) == 5
    [access] = page.router.dependencies
    for route in routes:
        assert access.dependency in [item.call for item in route.dependant.dependencies], (
            f"{route.path} requires no login"
        )


@pytest.mark.usefixtures("lake")
def test_login_is_not_enough_without_the_right_to_see_the_runs(
    page: FastAPI, anonymous: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.core_api import security

    questions: list[dict[str, Any]] = []

    class AuthManager:
        def is_authorized_dag(self, **question: Any) -> bool:
            questions.append(question)
            return len(questions) > 1

    monkeypatch.setattr(security, "get_auth_manager", AuthManager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda _: None)
    page.dependency_overrides[security.get_user] = lambda: "somebody"
    assert [anonymous.get("/").status_code for _ in range(2)] == [403, 200]
    assert {(question["details"].id, question["method"]) for question in questions} == {("fruit_features", "GET")}


def test_index_lists_the_runs_with_a_report_newest_first(
    user: Browser, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lake / "runs" / "20261123T120000Z-0123abcd").mkdir()
    (lake / "runs" / "notes").mkdir()
    (lake / "runs" / "notes" / "report.html").touch()
    page = user.get("/").text
    assert 0 < page.index(SLUG) < page.index(OLDER)
    assert "20261123" not in page
    assert "notes" not in page
    monkeypatch.setenv("FRUITS_LAKE", f"file://{lake}/new")
    assert "No run has a report yet" in user.get("/").text


@pytest.mark.usefixtures("lake")
def test_report_is_shown_as_written_and_a_missing_one_is_not_found(user: Browser) -> None:
    response = user.get(f"/{SLUG}")
    assert (response.status_code, response.headers["location"]) == (307, f"{SLUG}/report.html")
    response = user.get(f"/{SLUG}/report.html")
    assert response.text == f"<h1>é {SLUG}</h1>"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    response = user.get("/20990101T000000Z-00000000/report.html")
    assert response.status_code == 404
    assert "20990101T000000Z-00000000 has no report" in response.json()["detail"]


def test_the_lists_beside_a_report_are_downloads(user: Browser, lake: Path) -> None:
    (lake / "runs" / SLUG / "pca" / "insights").mkdir(parents=True)
    (lake / "runs" / SLUG / "pca" / "insights" / "outliers.csv").write_text("path,label\né,<b>\n", encoding="utf-8")
    response = user.get(f"/{SLUG}/pca/insights/outliers.csv")
    assert response.text == "path,label\né,<b>\n"
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"].startswith("attachment")
    assert user.get(f"/{SLUG}/pca/insights/unlike_label.csv").status_code == 404


def test_no_other_file_can_be_requested(user: Browser, lake: Path) -> None:
    (lake / "secret").mkdir()
    (lake / "secret" / "report.html").write_text("SECRET")
    (lake / "report.html").write_text("SECRET")
    traversals = ["..", "%2e%2e", "..%2f..%2fsecret", "%2e%2e%2fsecret", f"{SLUG}%0a", f"{SLUG}%2f..%2f.."]
    deep = [f"{SLUG}/pca/insights/{name}.csv" for name in ("..", "%2e%2e%2f%2e%2e%2freport", "x.y", "insights.json%00")]
    deep += [f"{path}/report.html" for path in traversals[:-1]]
    for path in [*traversals, *deep, "current.json", f"{SLUG}/report.json", f"x{SLUG}"]:
        response = user.get(f"/{path}")
        assert response.status_code in {307, 404, 422}, path
        assert "SECRET" not in response.text
    for path in ("j-1/..", "j-1/s-1%2F..", "x/s-1", "j-é/s-1", "j-1"):
        assert user.get(f"/logs/{path}").status_code in {404, 422}, path


def test_wrong_or_missing_setting_is_named(user: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_PROFILE", "production")
    response = user.get("/")
    assert response.status_code == 503
    assert "FRUITS_PROFILE='production'" in response.json()["detail"]
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    for path in ("/", f"/{SLUG}/report.html"):
        response = user.get(path)
        assert response.status_code == 503
        assert "FRUITS_LAKE" in response.json()["detail"]


def test_entry_in_the_navigation_leads_to_the_page(plugin: Any) -> None:
    [view] = plugin.FruitReportsPlugin.external_views
    assert view["href"] == f"{plugin.URL_PREFIX}/"
    assert plugin.FruitReportsPlugin().fastapi_apps[0]["url_prefix"] == plugin.URL_PREFIX


def test_plugin_does_not_import_the_web_framework() -> None:
    """Every task loads every plugin; only the API server needs the web framework."""
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
    assert f"==== file://{folder}/stderr.gz\n(not there: EMR writes a log minutes after its step" in response.text


def test_logs_of_a_step_are_read_where_fruits_logs_points_and_else_in_the_lake(
    user: Browser, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "elsewhere"
    monkeypatch.setenv("FRUITS_LOGS", f"file://{logs}")
    in_lake, elsewhere = lake / "logs" / "j-1" / "steps" / "s-1", logs / "j-1" / "steps" / "s-1"
    for folder, name in ((in_lake, "stdout"), (elsewhere, "stderr")):
        folder.mkdir(parents=True)
        (folder / f"{name}.gz").write_bytes(gzip.compress(f"text of {name}\n".encode()))
    text = user.get("/logs/j-1/s-1").text
    assert f"==== file://{elsewhere}/stderr.gz\ntext of stderr" in text
    assert f"==== file://{in_lake}/stdout.gz\ntext of stdout" in text, "from before FRUITS_LOGS was set"
    for missing in (elsewhere, in_lake):
        assert f"==== file://{missing}/stdout.gz\n(not there" in user.get("/logs/j-1/s-2").text.replace("s-2", "s-1")


def test_log_that_cannot_be_read_is_named_with_the_reason(
    user: Browser, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str, *_: Any) -> str:
        raise PermissionError(f"AccessDenied: {uri}")

    page_module = sys.modules["include.reports.page"]
    monkeypatch.setattr(page_module, "read_log_tail", refuse)
    response = user.get("/logs/j-1/s-1")
    assert response.status_code == 200
    assert (
        f"file://{lake}/logs/j-1/steps/s-1/stdout.gz\n(cannot be read: PermissionError: AccessDenied" in response.text
    )
