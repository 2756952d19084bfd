"""What botocore's model of EMR (2009-03-31) says about a request: required members, lengths, ranges, enumerations.

Clients that do not check their requests, and values that only the service checks (enumerations, maximum lengths), are
rejected with the messages of AWS's services.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from local.emr.clusters.errors import ValidationError


def check_request(action: str, request: Mapping[str, Any]) -> None:
    """Reject a request that contradicts the service model.

    Parameters
    ----------
    action : str
        Name of the action, as in the API reference.
    request : mapping
        The parsed request.

    Raises
    ------
    ValidationError
        With every contradiction, as ``Value '…' at 'steps.1.member.name' failed to satisfy constraint: …``.
    """
    shape = _service_model().operation_model(action).input_shape
    problems = list(_problems(shape, request, "")) if shape is not None else []
    if problems:
        noun = "error" if len(problems) == 1 else "errors"
        raise ValidationError(f"{len(problems)} validation {noun} detected: {'; '.join(problems)}")


@cache
def _service_model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("emr", "service-2"), "emr")


def _problems(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Yield what is wrong with a value and its members."""
    if shape.type_name == "structure" and isinstance(value, Mapping):
        for name in shape.required_members:
            if value.get(name) is None:
                yield _problem(None, _join(path, name), "Member must not be null")
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _problems(member, value[name], _join(path, name))
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _length_problems(shape, value, path)
        for number, item in enumerate(value, start=1):
            yield from _problems(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "string" and isinstance(value, str):
        yield from _length_problems(shape, value, path)
        if shape.enum and value not in shape.enum:
            yield _problem(value, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    elif shape.type_name in ("integer", "long", "float", "double") and isinstance(value, int | float):
        yield from _range_problems(shape, value, path)


def _length_problems(shape: Shape, value: str | list[Any], path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and len(value) < low:
        yield _problem(value, path, f"Member must have length greater than or equal to {low}")
    if high is not None and len(value) > high:
        yield _problem(value, path, f"Member must have length less than or equal to {high}")


def _range_problems(shape: Shape, value: float, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and value < low:
        yield _problem(value, path, f"Member must have value greater than or equal to {low}")
    if high is not None and value > high:
        yield _problem(value, path, f"Member must have value less than or equal to {high}")


def _problem(value: object, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    member = name[0].lower() + name[1:]
    return f"{path}.{member}" if path else member
