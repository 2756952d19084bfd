"""Airflow's REST API, as far as starting it takes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


class AirflowApi:
    """A client of the API server on this machine.

    Parameters
    ----------
    url : str
        Address of the API server.
    user, password : str
        Whom to log in as, at the first request that needs it.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._login = {"username": user, "password": password}
        self._token: str | None = None
        # No proxy, whatever the environment says: it would be asked for its own loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def health(self) -> dict[str, str]:
        """Return the components' states, ``healthy`` or not; none of them while the server does not answer."""
        try:
            answer = self._request("GET", "/api/v2/monitor/health", None, {})
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return {}
        return {"api-server": "healthy"} | {
            name.replace("_", "-"): str(part["status"]) for name, part in answer.items() if part
        }

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return a DAG's record; None while there is none."""
        try:
            return self._call("GET", f"/dags/{dag_id}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def import_errors(self) -> list[str]:
        """Return the errors that DAG files have raised."""
        return [str(item["stack_trace"]) for item in self._call("GET", "/importErrors")["import_errors"]]

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler work on a DAG."""
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
