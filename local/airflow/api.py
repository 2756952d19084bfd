"""A client of Airflow's REST API, for the supervisor and ``make down``."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any


class AirflowApi:
    """A client of the API server on this machine.

    Parameters
    ----------
    url : str
        URL of the API server.
    user, password : str
        Login; the first request that needs a token uses it.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._login = {"username": user, "password": password}
        self._token: str | None = None
        # No proxy, whatever the environment says: a proxy cannot reach this machine's loopback address.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def health(self) -> dict[str, str]:
        """Return the status of each component, such as ``healthy``; empty if the server does not answer."""
        try:
            answer = self._request("GET", "/api/v2/monitor/health", None, {})
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}
        return {"api-server": "healthy"} | {
            name.replace("_", "-"): str(part["status"]) for name, part in answer.items() if part
        }

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return a DAG; None if Airflow does not know it."""
        try:
            return self._call("GET", f"/dags/{dag_id}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def last_parsed(self, dag_id: str) -> datetime | None:
        """Return when Airflow last parsed a DAG; None if it never did."""
        dag = self.dag(dag_id)
        if dag is None or dag["last_parsed_time"] is None:
            return None
        return datetime.fromisoformat(dag["last_parsed_time"])

    def import_errors(self) -> list[str]:
        """Return the stack traces of the DAG files that cannot be imported."""
        return [str(item["stack_trace"]) for item in self._call("GET", "/importErrors")["import_errors"]]

    def unpause(self, dag_id: str) -> None:
        """Unpause a DAG."""
        self._call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def active_runs(self, dag_id: str) -> list[str]:
        """Return the ids of the runs that are running or queued."""
        runs = self._call("GET", f"/dags/{dag_id}/dagRuns?state=running&state=queued")["dag_runs"]
        return [str(run["dag_run_id"]) for run in runs]

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        if self._token is None:
            self._token = str(self._request("POST", "/auth/token", self._login, {})["access_token"])
        return self._request(method, f"/api/v2{path}", body, {"Authorization": f"Bearer {self._token}"})

    def _request(self, method: str, path: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data=data, method=method, headers={"Content-Type": "application/json", **headers}
        )
        with self._opener.open(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
        return answer
