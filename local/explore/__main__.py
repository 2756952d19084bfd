"""Open the published features in Embedding Atlas, in the browser: ``make explore``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rivals.environments import prepared
from local.airflow.home import RunError
from local.run.locations import locate_lake

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def main(argv: Sequence[str] | None = None) -> int:
    """Run Embedding Atlas until Ctrl-C; its environment is installed when it is first used."""
    parser = argparse.ArgumentParser(prog="python -m local.explore", description=__doc__.partition(":")[0])
    parser.add_argument("--lake", help="folder of the lake (default: .local/lake)")
    parser.add_argument("--relative-to", type=Path, default=Path(), help="folder to which a relative --lake refers")
    options = parser.parse_args(argv)
    try:
        files = find_features(locate_lake(options.lake, "folder", options.relative_to))
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    try:
        return subprocess.call(build_command(prepared(REQUIREMENTS).with_name("embedding-atlas"), files))
    except KeyboardInterrupt:
        return 0


def find_features(root: str) -> list[Path]:
    """Return the Parquet files of the published features of a lake in a folder.

    Raises
    ------
    RunError
        If the lake has no published state.
    """
    folder = Path(root.removeprefix("file://"))
    try:
        state = json.loads((folder / "current.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder} has no published state: name a lake with LAKE=folder, or start `make run`") from None
    return [folder / name for name in state["features"]]


def build_command(program: Path, files: Sequence[Path]) -> list[str]:
    """Return the command line: UMAP places the photos by their features, the same way every time."""
    options = {"vector": "features", "text": "path", "umap-metric": "euclidean", "umap-random-state": "0"}
    return [
        str(program),
        *map(str, files),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
        *("--host", "127.0.0.1"),
    ]


if __name__ == "__main__":
    sys.exit(main())
