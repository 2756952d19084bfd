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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a:b", "a?b"])
def test_a_clone_in_a_folder_that_cannot_work_is_refused_at_once(tmp_path: Path, name: str) -> None:
    script = tmp_path / name / "scripts" / "setup.sh"
    script.parent.mkdir(parents=True)
    script.write_text(SETUP, encoding="utf-8")
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the path of this clone, {tmp_path / name}, has a colon or a question mark" in done.stderr
    assert [path.name for path in (tmp_path / name).iterdir()] == ["scripts"]


@pytest.mark.slow
def test_a_user_without_an_entry_in_passwd_gets_one_or_advice(tmp_path: Path) -> None:
    """As in a container that runs with a number of a user of its own; the number is passed by a stand-in of ``id``."""
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "setup.sh"
    passwd = tmp_path / "passwd"
    script.write_text(SETUP.replace("/etc/passwd", str(passwd)), encoding="utf-8")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "id").write_text('#!/bin/sh\n[ "$1" = -un ] && exit 1\necho 12345\n')
    (tools / "id").chmod(0o755)

    def set_up() -> str:
        environ = {"PATH": f"{tools}:/usr/bin:/bin", "HOME": "/missing"}
        return subprocess.run(["bash", str(script)], env=environ, capture_output=True, text=True, check=False).stderr

    assert "user 12345 has no entry in" in set_up()
    passwd.write_text("root:x:0:0:root:/root:/bin/sh\n")
    assert "has no entry in" not in set_up()
    entry = passwd.read_text().splitlines()[1].split(":")
    assert entry[2:4] == ["12345", "12345"]
    assert entry[5] == str(tmp_path / ".local" / "home")
    assert (tmp_path / ".local" / "home").is_dir()
