"""The trigger form: the run parameters as Airflow Params, with types, limits, defaults and texts."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

from airflow.sdk import Param

from include.settings.deployment import Architecture
from include.settings.parameters import RunParams

_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "tuple[str, ...]": "array"}


def run_params(architecture: Architecture = "arm64", max_cost_eur: float | None = None) -> dict[str, Param]:
    """Return the DAG's Params, in the order of the form.

    Parameters
    ----------
    architecture : str
        Architecture of the nodes; the default instance types depend on it.
    max_cost_eur : float or None
        The default of the parameter with this name.
    """
    defaults = asdict(replace(RunParams.for_architecture(architecture), max_cost_eur=max_cost_eur))
    defaults["core_instance_types"] = list(defaults["core_instance_types"])  # JSON has no tuples
    return {
        item.name: Param(defaults[item.name], type=_json_type(str(item.type)), **item.metadata)
        for item in fields(RunParams)
    }


def forget_params() -> dict[str, Param]:
    """Return the Params of ``fruit_forget``, in the order of the form."""
    paths = "Photos to erase, one per line, such as data/Kiwi/1.jpg: relative to the lake's root, or URIs."
    labels = "Labels all of whose photos are erased, one per line."
    keep = "Erase only what is derived from the photos. They become rejects with the reason erased."
    items = {"type": "string"}
    return {
        "paths": Param([], title="Paths", description=paths, type="array", items=items),
        "labels": Param([], title="Labels", description=labels, type="array", items=items),
        "keep_photos": Param(False, title="Keep the photos", description=keep, type="boolean"),
    }


def _json_type(annotation: str) -> str | list[str]:
    name, optional, _ = annotation.partition(" | None")
    return [_JSON_TYPES[name], "null"] if optional else _JSON_TYPES[name]
