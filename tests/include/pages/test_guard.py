"""Airflow's login and permissions guard every route; what is shown can run no foreign script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.include.pages.conftest import SLUG, Browser, write_file

pytestmark = pytest.mark.slow

VALUES = {"slug": SLUG, "name": "outliers", "cluster": "j-1", "step": "s-1"}
"""A valid value of each parameter in the path of a route."""

QUERY = "?dag_id=fruit_features&run_id=manual__1"

FORGED = ({}, {"Authorization": "Bearer forged"}, {"Cookie": "_token=forged"})


def addresses(app: FastAPI) -> list[str]:
    """Return an address of every route of the application; a route of another kind has no guard, and fails."""
    found = []
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} takes no dependencies, so nothing guards it"
        assert route.methods == {"GET"}, f"{route.path} would need a permission to change something"
        found.append(re.sub(r"\{(\w+)\}", lambda match: VALUES[match[1]], route.path) + QUERY)
    assert len(found) >= 10
    return found


@pytest.mark.usefixtures("lake")
def test_every_route_requires_a_login(pages: FastAPI, anonymous: Browser) -> None:
    for path in addresses(pages):
        for headers in FORGED:
            response = anonymous.get(path, **headers)
            assert response.status_code in {401, 403}, path
            assert SLUG not in response.text


@pytest.mark.usefixtures("lake")
def test_every_route_leads_a_person_without_a_login_to_the_login_and_back(pages: FastAPI, anonymous: Browser) -> None:
    for path in addresses(pages):
        response = anonymous.get(path, Accept="text/html,*/*")
        assert response.status_code == 303
        asked = f"/fruit-reports{path}".replace("/", "%2F").replace("?", "%3F").replace("=", "%3D").replace("&", "%26")
        assert response.headers["location"] == f"/api/v2/auth/login?next={asked}"


class AuthManager:
    """Allows what the test allows, and records the requests for permission."""

    def __init__(self, *permitted: str) -> None:
        self.permitted = permitted
        self.questions: list[tuple[Any, ...]] = []

    def is_authorized_dag(self, *, method: Any, access_entity: Any, details: Any, user: Any) -> bool:
        self.questions.append((method, access_entity.name, details.id, user))
        return access_entity.name in self.permitted


@pytest.fixture
def log_in(pages: FastAPI, anonymous: Browser, airflow_runs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Log a user in; return the manager of permissions, which permits the named ones."""
    from airflow.api_fastapi.core_api import security

    def log_in(*permitted: str) -> AuthManager:
        manager = AuthManager(*permitted)
        monkeypatch.setattr(security, "get_auth_manager", lambda: manager)
        monkeypatch.setattr(security.DagModel, "get_team_name", lambda _: None)
        pages.dependency_overrides[security.get_user] = lambda: "somebody"
        return manager

    return log_in


@pytest.mark.usefixtures("lake")
def test_every_route_requires_the_permission_to_see_the_runs(pages: FastAPI, anonymous: Browser, log_in: Any) -> None:
    manager = log_in()
    for path in addresses(pages):
        response = anonymous.get(path, Accept="text/html")
        assert response.status_code == 403, path
        assert SLUG not in response.text
    assert set(manager.questions) == {("GET", "RUN", "fruit_features", "somebody")}
    log_in("RUN")
    refused = [path for path in addresses(pages) if anonymous.get(path).status_code in {401, 403}]
    assert refused == [f"/logs/j-1/s-1{QUERY}"], "logs require a permission of their own"
    log_in("RUN", "TASK_LOGS")
    assert [path for path in addresses(pages) if anonymous.get(path).status_code in {401, 403}] == []


def test_a_route_without_a_guard_would_be_found(pages: FastAPI) -> None:
    app = FastAPI()
    with pytest.raises(AssertionError, match="nothing guards it"):
        addresses(app)  # FastAPI's own routes, /docs among them
    from include.pages.guard import create_app

    assert create_app("empty").routes == []


@pytest.mark.parametrize("path", ["/", "/live", f"/{SLUG}/report.html", "/logs/j-1/s-1", "/nonsense", f"/run{QUERY}"])
@pytest.mark.usefixtures("lake")
def test_every_answer_has_a_policy_and_only_airflow_may_embed_it(user: Browser, path: str) -> None:
    headers = user.get(path, Accept="text/html").headers
    policy = headers["content-security-policy"]
    assert re.search(r"default-src 'none'.*frame-ancestors 'self'", policy)
    assert "base-uri 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "private, no-cache"


def test_a_report_with_scripts_that_are_not_ours_gets_an_origin_of_its_own(user: Browser, lake: Path) -> None:
    """Nodes of a cluster may write into the folder of a run, and Airflow's cookies are for the same host."""
    from include.reports.report import build_report, render_failure, render_report
    from tests.include.run_records import failure_report, insights_record, manifest

    path = f"/{SLUG}/report.html"
    policy = user.get(path).headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts allow-downloads;")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy, "default-src is 'none'"
    for text in (
        render_report(build_report(manifest()), insights_record(), []),  # type: ignore[arg-type]
        render_failure(failure_report()),  # type: ignore[arg-type]
    ):
        write_file(lake / "runs" / SLUG / "report.html", text)
        policy = user.get(path).headers["content-security-policy"]
        assert "sandbox" not in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy


def test_no_other_file_can_be_requested(user: Browser, lake: Path) -> None:
    for place in ("secret", "runs/secret", "."):
        write_file(lake / place / "report.html", "SECRET")
        write_file(lake / place / "pca" / "pca_features.csv", "SECRET")
        write_file(lake / place / "segments.json", "SECRET")
    hostile = ["..", "%2e%2e", "..%2f..%2fsecret", "%2e%2e%2fsecret", "secret", f"{SLUG}%0a", f"{SLUG}%2f..%2f.."]
    hostile += ["s3:%2f%2fother-bucket%2fruns", "s3://other-bucket/runs", "%2fetc", "file:%2f%2f%2fetc", "x" * 300]
    files = ["", "/report.html", "/pca_features.csv", "/rejects.csv", "/pca/insights/outliers.csv"]
    paths = [f"{name}{file}" for name in hostile for file in files]
    names = ("..", "%2e%2e%2f%2e%2e%2freport", "x.y", "insights.json%00", "s3:%2f%2fother%2fx")
    paths += [f"{SLUG}/pca/insights/{name}.csv" for name in names]
    paths += [f"logs/{name}" for name in ("j-1/..", "j-1/s-1%2F..", "x/s-1", "j-é/s-1", "j-1", "s3:%2f%2fother/s-1")]
    paths += [f"clusters/{name}" for name in ("..", "x", "j-1%2f..")]
    for path in [*paths, "current.json", f"{SLUG}/report.json", f"x{SLUG}"]:
        response = user.get(f"/{path}")
        assert response.status_code in {307, 404}, path
        assert "SECRET" not in response.text
        location = response.headers.get("location", f"{SLUG}/report.html")
        assert location == f"{SLUG}/report.html" or location.startswith("http://airflow/fruit-reports/"), path


def test_segments_outside_the_folder_of_segments_are_refused(user: Browser, lake: Path) -> None:
    """The list of segments is a file that nodes of a cluster write."""
    for id_ in ("../secret", "..", "s3://other-bucket/x", "/etc"):
        write_file(
            lake / "runs" / SLUG / "segments.json",
            f'{{"folder": "s3://other-bucket", "segments": [{{"id": "{id_}", "rejects": 1}}]}}',
        )
        response = user.get(f"/{SLUG}/rejects.csv")
        assert response.status_code == 500
        assert f"names the segment {id_!r}, which is no name of a folder" in response.json()["detail"]


def test_wrong_or_missing_setting_is_named(user: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_PROFILE", "production")
    response = user.get("/")
    assert response.status_code == 503
    assert "FRUITS_PROFILE='production'" in response.json()["detail"]
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    for path in ("/", f"/{SLUG}/report.html"):
        response = user.get(path, Accept="text/html")
        assert response.status_code == 503
        assert "FRUITS_LAKE" in response.text
