"""Parse docker-compose.yaml, the Dockerfile and .env.example, for the tests that compare them."""

from __future__ import annotations

import fnmatch
import importlib.util
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"
ENV_EXAMPLE = ROOT / ".env.example"

VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_][A-Z0-9_]*)(?:(?P<operator>:?[-?])(?P<text>[^}]*))?\}")
"""The forms of Compose's interpolation that this project uses."""


@dataclass(frozen=True)
class Variable:
    """A variable of docker-compose.yaml: name, operator (``:-`` or ``:?``), and default or error message."""

    name: str
    operator: str
    text: str


def variables() -> list[Variable]:
    """Return every use of a variable in docker-compose.yaml."""
    text = COMPOSE_FILE.read_text(encoding="utf-8")
    assert "$" not in VARIABLE.sub("", text), "a $ in a form that these tests do not parse"
    return [Variable(m["name"], m["operator"] or "", m["text"] or "") for m in VARIABLE.finditer(text)]


def read_env(text: str) -> dict[str, str]:
    """Return the variables of a .env file."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def interpolate(value: Any, environ: dict[str, str]) -> Any:
    """Replace the variables in a part of docker-compose.yaml by their values."""
    if isinstance(value, dict):
        return {key: interpolate(item, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environ) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if environ.get(match["name"]):
            return environ[match["name"]]
        if (match["operator"] or "").endswith("?"):
            raise KeyError(match["name"])
        return match["text"] or ""

    return VARIABLE.sub(fill, value)


def compose() -> dict[str, Any]:
    """Return docker-compose.yaml without interpolation."""
    return dict(yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8")))


def filled_env() -> dict[str, str]:
    """Return what `scripts/write_env.py` would write."""
    return read_env(load_script("scripts/write_env.py").fill_in(ENV_EXAMPLE.read_text(encoding="utf-8")))


def services(environ: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the services after interpolation; by default with the variables of :func:`filled_env`."""
    return dict(interpolate(compose()["services"], filled_env() if environ is None else environ))


@dataclass(frozen=True)
class Mount:
    """A mount of a service."""

    source: str
    target: str
    read_only: bool

    @property
    def is_bind(self) -> bool:
        return self.source.startswith((".", "/", "~"))


def mounts(service: dict[str, Any]) -> list[Mount]:
    """Return a service's mounts, in the short or the long syntax."""
    parsed = []
    for item in service.get("volumes", []):
        if isinstance(item, dict):
            parsed.append(Mount(item["source"], item["target"], bool(item.get("read_only"))))
        else:
            source, target, *mode = item.split(":")
            parsed.append(Mount(source, target, mode == ["ro"]))
    return parsed


@dataclass(frozen=True)
class Stage:
    """A stage of the Dockerfile: its base and its instructions, each a keyword and its text."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        """Return the texts of all instructions with a keyword."""
        return [text for word, text in self.instructions if word == keyword]


def stages() -> dict[str, Stage]:
    """Return the Dockerfile's stages."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.M)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    by_name: dict[str, Stage] = {}
    for line in filter(str.strip, lines):
        keyword, _, rest = line.partition(" ")
        if keyword == "FROM":
            base, _, name = rest.split()
            by_name[name] = Stage(name, base, ())
        elif by_name:
            name = next(reversed(by_name))
            stage = by_name[name]
            by_name[name] = Stage(name, stage.base, (*stage.instructions, (keyword, rest.strip())))
    return by_name


def lineage(name: str) -> list[Stage]:
    """Return a stage and its ancestors, the stage first."""
    known = stages()
    line = [known[name]]
    while line[-1].base in known:
        line.append(known[line[-1].base])
    return line


def copied_files(stage: Stage) -> list[str]:
    """Return the files and folders of this project that a stage copies."""
    copies = [shlex.split(text) for text in stage.all("COPY")]
    return [word for words in copies if not words[0].startswith("--from=") for word in words[:-1]]


def option(command: list[str], name: str) -> str:
    """Return the value of the option ``name=value`` of a command."""
    (value,) = [part.partition("=")[2] for part in command if part.partition("=")[0] == name]
    return value


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program and capture its output."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)


def is_sent(path: str) -> bool:
    """Return whether .dockerignore lets a file of this project through: the last matching pattern decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parents = [path, *(str(parent) for parent in Path(path).parents if str(parent) != ".")]
        bare = pattern.removeprefix("**/")
        if any(
            fnmatch.fnmatchcase(part, pattern) or (bare != pattern and fnmatch.fnmatchcase(Path(part).name, bare))
            for part in parents
        ):
            sent = line.startswith("!")
    return sent


def load_script(path: str) -> ModuleType:
    """Import a script of this project by its path."""
    name = Path(path).stem
    spec = importlib.util.spec_from_file_location(f"compose_script_{name}", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
