"""The HTTP server: the route of EMR, a health check, and the routes of the fault scenario."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import moto.emr.urls
from moto.moto_server.werkzeug_app import MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from local.emr.api.actions import EmrApi
from local.emr.clusters.journal import Journal, JournalError
from local.emr.clusters.registry import Registry
from local.emr.faults.api_faults import TARGET_PREFIX, WsgiApp, inject_api_faults
from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ScenarioError
from local.emr.options import Options
from local.emr.spark.processes import end_earlier_steps, kill_unguarded_children
from local.processes import guard
from local.processes.lock import exclusive_lock

logger = logging.getLogger(__name__)

RECORD_FILE = "endpoint.json"
JOURNAL_FILE = "clusters.sqlite"
OLD_JOURNAL_FILE = "journal.jsonl"
"""The journal of earlier versions of the endpoint, which this version does not read."""


class EndpointError(RuntimeError):
    """The endpoint cannot start; the message says what to do."""


class _QuietHandler(MotoRequestHandler):
    """Writes requests to the log of this package, not to standard error."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        logger.debug("%s %s %s", self.command, self.path, code)


def is_loopback(host: str) -> bool:  # as in include/aws/endpoints.py, which must not import local
    """Return whether only this machine can reach a server that listens on an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def build_app(registry: Registry) -> WsgiApp:
    """Return the WSGI application for the clusters of a registry."""
    EmrApi.registry = registry
    moto.emr.urls.url_paths = {"{0}/$": EmrApi.dispatch}
    emr = inject_api_faults(create_backend_app("emr"), registry.faults, registry.options)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        if "Origin" in request.headers:
            # Steps run any command: a web page in a browser on this machine must not submit one.
            answer = _refuse("AccessDeniedException", "Browsers are not served.", 403)
        elif request.path == "/healthz":
            answer = _json({"status": "ok"})
        elif request.path == "/local-emr/faults":
            answer = _faults(request, registry.faults)
        elif request.path == "/local-emr/faults/matches":
            answer = _json(registry.faults.matches())
        elif request.method == "POST" and request.headers.get("X-Amz-Target", "").startswith(TARGET_PREFIX):
            return emr(environ, start_response)
        else:
            answer = _refuse("UnknownOperationException", "This endpoint speaks the Amazon EMR API only.", 400)
        return answer(environ, start_response)

    return app


def _json(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body, indent=2) + "\n", status=status, mimetype="application/json")


def _refuse(code: str, message: str, status: int) -> Response:
    answer = _json({"__type": code, "message": message}, status)
    answer.headers["x-amzn-ErrorType"] = code
    return answer


def _faults(request: Request, faults: Faults) -> Response:
    try:
        if request.method == "PUT":
            faults.replace(request.get_data(as_text=True))
        elif request.method == "POST":
            faults.extend(request.get_data(as_text=True))
        elif request.method == "DELETE":
            faults.replace("{}")
        elif request.method != "GET":
            return _refuse("ValidationException", "Use GET, PUT, POST or DELETE.", 405)
    except ScenarioError as error:
        return _refuse("ValidationException", str(error), 400)
    return _json(faults.describe())


def _locked(state_dir: Path) -> AbstractContextManager[int]:
    """Return the lock of the state directory: two endpoints in it would overwrite each other's files."""
    return exclusive_lock(
        state_dir / "lock",
        lambda holder: EndpointError(
            f"another endpoint runs in {state_dir}: stop it, or choose another --state-dir. It is {holder}"
        ),
    )


def serve(
    options: Options,
    faults: Faults,
    *,
    host: str,
    port: int,
    until: Callable[[], object],
    ready: Callable[[str], None],
) -> None:
    """Serve until ``until`` returns, then stop every running step with all its processes.

    The clusters of earlier endpoints in the state directory continue; see :mod:`local.emr.clusters.cluster`.

    Parameters
    ----------
    options : Options
        The endpoint's settings.
    faults : Faults
        The faults to inject.
    host, port : str, int
        Address to listen on; port 0 takes a free port.
    until : callable
        Returns when the server must stop.
    ready : callable
        Called with the URL as soon as the server answers.

    Raises
    ------
    EndpointError
        If the address or the state directory is in use, or if the state cannot be read.
    """
    with _locked(options.state_dir):
        record = options.state_dir / RECORD_FILE
        record.unlink(missing_ok=True)  # of a killed endpoint
        guard.become_subreaper()  # receives the children of a killed guard
        end_earlier_steps(options.state_dir)
        registry = _restore(options, faults)
        try:
            server = make_server(host, port, build_app(registry), threaded=True, request_handler=_QuietHandler)
        except (OSError, SystemExit) as error:
            raise EndpointError(f"cannot listen on {host}:{port}: {error}") from None
        registry.resume()  # only now: an endpoint that cannot serve must not change the clusters
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
        thread.start()
        _write(record, {"url": url, "pid": os.getpid()})
        try:
            ready(url)
            until()
        finally:
            logger.info("stopping")
            registry.close()
            server.shutdown()
            thread.join()
            server.server_close()
            record.unlink(missing_ok=True)
            kill_unguarded_children()


def _restore(options: Options, faults: Faults) -> Registry:
    """Return the registry of the state directory. A request may write to its journal until the process exits."""
    old_journal = options.state_dir / OLD_JOURNAL_FILE
    if old_journal.exists():
        logger.warning("the clusters of an earlier version of the endpoint, in %s, are not listed", old_journal)
    try:
        return Registry(options, faults, Journal(options.state_dir / JOURNAL_FILE))
    except JournalError as error:
        raise EndpointError(str(error)) from None


def _write(path: Path, record: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(record) + "\n", encoding="utf-8")
    temporary.replace(path)
