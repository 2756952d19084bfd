"""Faults of API calls: errors, late responses and broken connections. A WSGI middleware of the EMR API."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from werkzeug.wrappers import Request, Response

from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ScenarioError
from local.emr.options import Options

TARGET_PREFIX = "ElasticMapReduce."
"""Prefix of the header ``X-Amz-Target`` of a request to EMR; the name of the action follows."""

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


def error_response(code: str, message: str, status: int) -> Response:
    """Return an error in the AWS JSON protocol. The code may be one that EMR's service model does not list."""
    body = json.dumps({"__type": code, "message": message, "Message": message})
    response = Response(body, status=status, content_type="application/x-amz-json-1.1")
    response.headers["x-amzn-ErrorType"] = code
    return response


def inject_api_faults(emr: WsgiApp, faults: Faults, options: Options) -> WsgiApp:
    """Return a WSGI application that applies the faults of API calls to the EMR API."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        action = Request(environ).headers.get("X-Amz-Target", "").removeprefix(TARGET_PREFIX)
        try:
            fault = faults.for_action(action)
        except ScenarioError as error:
            response = error_response("ValidationException", f"The fault scenario is invalid: {error}", 400)
            return response(environ, start_response)
        if fault is None:
            return emr(environ, start_response)
        # Computed before the delay: the action takes effect even if its response is late.
        completed = Response.from_app(emr, environ) if fault.when == "after" else None
        time.sleep(options.shorten(fault.delay_seconds))
        if fault.drops:
            _break_connection(environ)
        if fault.error is not None:
            return error_response(fault.error, fault.message, fault.http_status)(environ, start_response)
        return (completed or emr)(environ, start_response)

    return app


def _break_connection(environ: dict[str, Any]) -> None:
    """Break the connection without a response, as a crashed server does.

    Raises
    ------
    ConnectionAbortedError
        Always: the server then sends no response.
    """
    with suppress(OSError):  # the client may have closed the connection
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("a fault broke this connection")
