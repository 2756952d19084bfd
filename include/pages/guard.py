"""Who may see the pages, and what a page may do in the browser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException

from include.pages.rendering import render_page
from include.settings.addresses import airflow_path
from include.settings.dag_ids import FEATURES_DAG

READ_RUNS = requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN, param_dag_id=FEATURES_DAG)
"""Dependency: the user may see the runs of the DAG."""

READ_LOGS = requires_access_dag(method="GET", access_entity=DagAccessEntity.TASK_LOGS, param_dag_id=FEATURES_DAG)
"""Dependency: the user may see the logs of the DAG's tasks."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
"""Headers of each response that does not set them itself."""

UNTRUSTED = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Policy of a page whose scripts are not known: they run in an origin of their own, without Airflow's cookies, and
reach no address."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]


class SafeHeaders:
    """Middleware that adds :data:`HEADERS`."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        """Handle a request."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safely)


def create_app(title: str) -> FastAPI:
    """Return an application each route of which requires Airflow's login and the permission to see the DAG's runs.

    Airflow mounts a plugin's application without authentication. FastAPI's own routes, which describe the application,
    cannot have dependencies: they are switched off.
    """
    from fastapi import Depends

    app = FastAPI(title=title, dependencies=[Depends(READ_RUNS)], openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(SafeHeaders)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(RequestValidationError, _answer_wrong_address)
    return app


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 401 and _wants_page(request):
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(airflow_path(f"/api/v2/auth/login?next={quote(here, safe='')}"), status_code=303)
    return _answer(request, error.status_code, str(error.detail), error.headers)


async def _answer_wrong_address(request: Request, error: Exception) -> Response:
    return _answer(request, 404, "there is no page at this address", None)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _answer(request: Request, status: int, detail: str, headers: Any) -> Response:
    if _wants_page(request):
        return render_page("error.html.jinja", status=status, status_code=status, detail=detail)
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)
