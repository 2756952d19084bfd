"""EMR's service model in botocore, which describes valid requests."""

from __future__ import annotations

from functools import cache
from typing import Any

import botocore.session
from botocore.validate import ParamValidator


def problems_of(operation: str, request: dict[str, Any]) -> str:
    """Return the problems of a request by EMR's service model; empty if it is valid."""
    return str(ParamValidator().validate(request, _input_shape(operation)).generate_report())


@cache
def _input_shape(operation: str) -> Any:
    return botocore.session.get_session().get_service_model("emr").operation_model(operation).input_shape
