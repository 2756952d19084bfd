"""scripts/setup.sh on machines as people have them. `make` in a fresh clone tests the whole script."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SETUP = (Path(__file__).resolve().parents[2] / "scripts" / "setup.sh").read_text(encoding="utf-8")


def call(function: str, *arguments: str, path: str = "/usr/bin:/bin") -> str:
    """Call a one-line function of the script."""
    [definition] = [line for line in SETUP.splitlines() if line.startswith(f"{function}()")]
    command = ["bash", "-c", f'{definition}\n{function} "$@"', "bash", *arguments]
    done = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=False)
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("printed", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment', "17"),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21.0.1" 2023-10-17', "21"),
        ('Picked up _JAVA_OPTIONS: -Duser.language=en\njava version "1.8.0_402"', "1"),
        ('Picked up JAVA_TOOL_OPTIONS: -Dversion=99\nopenjdk version "17" 2021-09-14', "17"),
        ("Error: could not find libjava.so", ""),
    ],
)
def test_java_is_found_whatever_options_the_shell_sets(tmp_path: Path, printed: str, major: str) -> None:
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\ncat >&2 <<'EOF'\n{printed}\nEOF\n")
    java.chmod(0o755)
    assert call("java_major", str(java)) == major
