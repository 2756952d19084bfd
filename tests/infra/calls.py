"""The AWS requests that the code can make, read from its source and from the methods of Airflow's provider it runs."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

from tests.infra.policies import ROOT

SERVICES = ("emr", "s3", "kms", "ec2", "cloudformation", "pricing")
"""The services whose requests are searched; :func:`services_named` finds those that are missing here."""

PROVIDER = "airflow.providers.amazon.aws"
RUN_BY_AIRFLOW = ("execute", "poke", "get_emr_response", "on_kill", "cleanup")
"""Methods of operators and sensors that Airflow calls."""


@functools.cache
def operations() -> dict[str, list[str]]:
    """Return the requests by the name of the client's method: ``describe_cluster`` is ``emr.DescribeCluster``."""
    session = botocore.session.get_session()
    found: dict[str, list[str]] = {}
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(name), []).append(f"{service}.{name}")
    return found


def source_files() -> list[Path]:
    """Return the files of the production code; scripts that capture data are for developers only."""
    folders = ("include", "dags", "plugins", "scripts")
    return sorted(
        path for folder in folders for path in (ROOT / folder).rglob("*.py") if not path.name.startswith("capture_")
    )


def named_operations(tree: ast.AST) -> set[str]:
    """Return the client methods that code calls, or names in a string for a paginator, a waiter or getattr."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.add(node.func.attr)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found & set(operations())


def services_named(tree: ast.AST) -> set[str]:
    """Return the services whose clients the code gets from boto3 or a hook by name."""
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in {"client", "resource", "get_client_type"} and node.args:
            found |= _text(node.args[0])
        for keyword in node.keywords:
            if keyword.arg in {"client_type", "resource_type"}:
                found |= _text(keyword.value)
    return found


def _text(node: ast.AST) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def provider_imports(tree: ast.AST) -> dict[str, Any]:
    """Return the objects that a file imports from Airflow's Amazon provider, by name."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PROVIDER):
            module = importlib.import_module(str(node.module))
            found |= {alias.name: getattr(module, alias.name) for alias in node.names}
    return found


def overridden_methods(tree: ast.AST) -> dict[str, set[str]]:
    """Map each base class to the methods that a subclass overrides without a call of ``super()``."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
        whole = {method.name for method in methods if f"super().{method.name}(" not in ast.unparse(method)}
        for base in node.bases:
            if isinstance(base, ast.Name):
                found.setdefault(base.id, set()).update(whole)
    return found


def provider_calls(tree: ast.AST) -> set[str]:
    """Return the client methods that the provider's operators, hooks and functions call for a file."""
    found: set[str] = set()
    overridden, used = overridden_methods(tree), _attributes(tree)
    for name, thing in provider_imports(tree).items():
        if inspect.isfunction(thing):
            found |= named_operations(_parse(thing))
        elif inspect.isclass(thing):
            starts = {method for method in RUN_BY_AIRFLOW if hasattr(thing, "execute")} | used
            found |= _reached(thing, starts - overridden.get(name, set()))
    return found


def _attributes(tree: ast.AST) -> set[str]:
    return {
        node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }


def _reached(owner: type, starts: Iterable[str]) -> set[str]:
    """Return the client methods that methods of a class or of its hook call, within the provider's code."""
    classes = [owner, *([hook] if inspect.isclass(hook := getattr(owner, "aws_hook_class", None)) else [])]
    found: set[str] = set()
    seen: set[str] = set()
    pending = [name for name in starts if name not in operations()]
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for one in classes:
            method = inspect.getattr_static(one, name, None)
            if not inspect.isfunction(method) or not method.__module__.startswith(PROVIDER):
                continue
            tree = _parse(method)
            found |= named_operations(tree)
            pending += [called for called in _attributes(tree) if called not in operations()]
    return found


def _parse(thing: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(thing)))


def discover() -> dict[str, set[str]]:
    """Map each client method that is called to the files that call it."""
    found: dict[str, set[str]] = {}
    for path in source_files():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for method in named_operations(tree) | provider_calls(tree):
            found.setdefault(method, set()).add(path.relative_to(ROOT).as_posix())
    return found
