"""What goes wrong with API calls: errors, late answers, connections that break. A WSGI layer over the EMR API."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from werkzeug.wrappers import Request, Response

from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ApiFault, ScenarioError
from local.emr.options import Options

logger = logging.getLogger(__name__)

TARGET = "ElasticMapReduce."
"""What the header ``X-Amz-Target`` of a request to EMR begins with; the action follows."""

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


def error_answer(code: str, message: str, status: int) -> Response:
    """Return an error as the AWS JSON protocol has it, also one that no model of EMR names (throttling is in none)."""
    body = json.dumps({"__type": code, "message": message, "Message": message})
    answer = Response(body, status=status, content_type="application/x-amz-json-1.1")
    answer.headers["x-amzn-ErrorType"] = code
    return answer


def interfere(emr: WsgiApp, faults: Faults, options: Options) -> WsgiApp:
    """Return the API with the faults that are due for its calls."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        action = Request(environ).headers.get("X-Amz-Target", "").removeprefix(TARGET)
        try:
            fault = faults.for_action(action)
        except ScenarioError as error:
            answer = error_answer("ValidationException", f"The fault scenario cannot be followed: {error}", 400)
            return answer(environ, start_response)
        if fault is None:
            return emr(environ, start_response)
        # Taken whole before the wait: the action has had its effect when its answer is late.
        taken = Response.from_app(emr, environ) if fault.when == "after" else None
        time.sleep(options.shorten(fault.delay_seconds))
        if fault.drops:
            _drop(environ)
        if fault.error is not None:
            return _error_of(fault, fault.error)(environ, start_response)
        return (taken or emr)(environ, start_response)

    return app


def _error_of(fault: ApiFault, code: str) -> Response:
    return error_answer(code, fault.message, fault.http_status)


def _drop(environ: dict[str, Any]) -> None:
    """Break the connection, as a server that is gone does; the caller gets no answer.

    Raises
    ------
    ConnectionAbortedError
        Always: the server then knows that there is nobody left to answer.
    """
    with suppress(OSError):  # the caller may have gone first
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("this connection was to be dropped")
