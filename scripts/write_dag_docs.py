"""Write docs/dags.md from the DAGs and the settings; with --check, report whether it is up to date."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "dags.md"


def load_dags() -> list[Any]:
    """Parse the DAG files with default settings and a temporary Airflow home."""
    for name in [name for name in os.environ if name.startswith(("FRUITS_", "AIRFLOW", "AWS_"))]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="dag-docs-")
    os.environ |= {
        "AIRFLOW_HOME": home,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    }
    sys.path.insert(0, str(ROOT))
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    if bag.import_errors:
        raise SystemExit(f"DAG files do not parse: {bag.import_errors}")
    return [bag.dags[dag_id] for dag_id in sorted(bag.dags)]


def describe_dag(dag: Any) -> str:
    """Return a DAG's section."""
    schedule = (
        f"Schedule `{dag.schedule}` ({dag.timezone}), catch-up {_on(dag.catchup)}, "
        f"at most {dag.max_active_runs} run at a time. Tags: {', '.join(sorted(dag.tags))}."
    )
    lines = [
        f"## `{dag.dag_id}`",
        "",
        schedule,
        "",
        dag.doc_md.strip(),
        "",
        "### Tasks",
        "",
        "| task | operator | retries | next |",
        "| --- | --- | --- | --- |",
    ]
    for task in dag.topological_sort():
        following = ", ".join(f"`{name}`" for name in sorted(task.downstream_task_ids)) or "—"
        kind = "setup" if task.is_setup else "teardown" if task.is_teardown else ""
        lines.append(
            f"| `{task.task_id}` {kind} | `{task.task_type}` | {task.retries} | {following} |".replace("  ", " ")
        )
    if dag.params:
        lines += [
            "",
            "### Parameters of a run",
            "",
            "| parameter | default | limits | what it is |",
            "| --- | --- | --- | --- |",
            *(_describe_param(name, dag.params.get_param(name)) for name in dag.params),
        ]
    return "\n".join(lines)


def _on(value: bool) -> str:
    return "on" if value else "off"


def _describe_param(name: str, param: Any) -> str:
    limits = {
        key: param.schema[key]
        for key in ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems")
        if key in param.schema
    }
    kind = limits.pop("type")
    text = ", ".join(
        [kind if isinstance(kind, str) else " or ".join(kind), *(f"{key} {value}" for key, value in limits.items())]
    )
    if "enum" in param.schema:
        text = " or ".join(f"`{choice}`" for choice in param.schema["enum"])
    default = ", ".join(param.value) if isinstance(param.value, list) else param.value
    shown = "—" if default is None else f"`{default}`"
    return f"| `{name}` | {shown} | {text} | {param.description} |"


def describe_settings() -> str:
    """Return the section of the deployment settings."""
    from include.settings.deployment import Settings, environment_name, variable_name

    lines = [
        "## Deployment settings",
        "",
        "The environment variable overrides the Airflow Variable, which overrides the default. Settings without a",
        "Variable shape the DAG itself: they are read when the DAG file is parsed.",
        "",
        "| environment variable | Airflow Variable | default | what it is |",
        "| --- | --- | --- | --- |",
    ]
    for item in fields(Settings):
        variable = "—" if item.metadata["shapes_dag"] else f"`{variable_name(item.name)}`"
        default = item.default
        text = ",".join(default) if isinstance(default, tuple) else default
        shown = "—" if text in (None, "") else f"`{text}`"
        lines.append(f"| `{environment_name(item.name)}` | {variable} | {shown} | {item.metadata['help']} |")
    return "\n".join(lines)


def render() -> str:
    """Return the whole document."""
    head = "# DAGs\n\nGenerated from the DAGs by `make docs`; do not edit. CI fails if it is not up to date."
    return "\n\n".join([head, *(describe_dag(dag) for dag in load_dags()), describe_settings()]) + "\n"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the document is not up to date")
    options = parser.parse_args()
    text = render()
    if not options.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("docs/dags.md is not up to date: run `make docs` and commit it\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
