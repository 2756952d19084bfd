"""The commands: `make` lists them, documents describe them, and each runs the documented program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M)
MAIN_TARGETS = ["run", "test", "soak", "bench", "lint", "model", "publish"]

pytestmark = [
    pytest.mark.slow,  # starts make
    pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed"),
]


PLAIN = {name: value for name, value in os.environ.items() if name in {"HOME", "PATH"}}
"""An environment without the options and variables of the `make test` that runs these tests."""


def make(*arguments: str) -> str:
    done = subprocess.run(["make", *arguments], cwd=ROOT, env=PLAIN, capture_output=True, text=True, check=True)
    return done.stdout


def test_make_alone_lists_every_command_with_a_help_text() -> None:
    listed = dict(re.findall(r"^  make (\S+) +(.+)$", make(), flags=re.M))
    assert set(listed) == set(TARGETS), "give the target a ` ## help text`"
    assert set(MAIN_TARGETS) <= set(listed)


def test_no_command_is_hidden_by_a_file_of_its_name() -> None:
    [phony] = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.M)
    assert set(TARGETS) <= set(phony.split())


@pytest.mark.parametrize(("command", "document"), [("run", "README"), ("test", "README"), ("lint", "CONTRIBUTING")])
def test_main_commands_are_documented(command: str, document: str) -> None:
    assert f"make {command}" in (ROOT / f"{document}.md").read_text(encoding="utf-8")


def test_documents_name_no_command_that_does_not_exist() -> None:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        named = set(re.findall(r"`make ([a-z][a-z-]*)", path.read_text(encoding="utf-8")))
        named |= set(re.findall(r"^\s*make ([a-z][a-z-]*)", path.read_text(encoding="utf-8"), flags=re.M))
        assert named <= set(TARGETS), f"{path.name} names {named - set(TARGETS)}"


def arguments_of(command: str, *options: str, **environ: str) -> list[str]:
    """Return the arguments that a command of make gives to Python; set-up is left out."""
    done = subprocess.run(
        ["make", "--old-file=setup", *options, command, r"IN_VENV=printf '%s\n'"],
        cwd=environ.pop("cwd", ROOT),
        env=PLAIN | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def value_of(option: str, arguments: list[str]) -> str:
    return arguments[arguments.index(option) + 1]


NAMES = ["/my photos", "~/photos", "it's", 'a"b', "a$b", "$(shell id)", "a$$b", "a#b", "a;b&c", "a\\b", "é"]
"""Values that make or a shell could change."""


@pytest.mark.parametrize("name", NAMES)
def test_run_hands_names_on_as_they_are(name: str) -> None:
    given = arguments_of("run", f"IMAGES={name}", f"LAKE={name}", "PARAMS=variance_target=0.9 data_prefix=x")
    assert value_of("-m", given) == "local.run"
    assert value_of("--images", given) == value_of("--lake", given) == name
    assert value_of("--params", given) == "variance_target=0.9 data_prefix=x"
    assert value_of("--images", arguments_of("run", IMAGES=name)) == name


def test_every_command_hands_its_variables_on_as_they_are(tmp_path: Path) -> None:
    variables = [
        ("run", "STORE", "--store"),
        ("up", "STORE", "--store"),
        ("up", "PORT", "--port"),
        ("up", "IMAGES", "--images"),
        ("up", "LAKE", "--lake"),
        ("forget", "PATHS", "--paths"),
        ("forget", "LABELS", "--labels"),
        ("forget", "FILE", "--file"),
        ("forget", "LAKE", "--lake"),
        ("publish", "ROOT", "--root"),
        ("settings", "STACK", "--stack"),
        ("settings", "FORMAT", "--format"),
        ("bench", "LAPS", "--laps"),
    ]
    for command, variable, option in variables:
        assert option not in arguments_of(command) or command == "publish", (command, variable)
        for name in NAMES:
            assert value_of(option, arguments_of(command, f"{variable}={name}")) == name, (command, variable)
    for name in NAMES:
        assert arguments_of("prove-erasure", f"RECEIPT={name}")[-1] == name
    assert "--keep-photos" not in arguments_of("forget")
    assert "--keep-photos" in arguments_of("forget", "KEEP_PHOTOS=yes")
    for command, variable, option in [("mwaa", "SETTINGS", "--settings"), ("bench", "IMAGES", "--images")]:
        assert option not in arguments_of(command), (command, variable)
        for name in NAMES:
            given = arguments_of(
                command, "-C", str(ROOT), f"{variable}={name}", cwd=str(tmp_path), PWD=str(tmp_path), HOME=str(tmp_path)
            )
            path = str(tmp_path / name.replace("~", str(tmp_path)))
            assert value_of(option, given) == path, (command, variable)


def test_lists_of_words_are_split_as_the_shell_does() -> None:
    for command, variable in [("bench", "TABLES"), ("prices", "OPTIONS"), ("test", "TESTS"), ("soak", "TESTS")]:
        if command == "soak":  # it goes on after pytest
            assert "junitxml=.local/soak.xml -k 'a$b or c'; code" in make("--dry-run", "soak", "TESTS=-k 'a$b or c'")
            continue
        given = arguments_of(command, f"{variable}=-k 'a$b or c$(shell id)' \"é é\"")
        assert given[-3:] == ["-k", "a$b or c$(shell id)", "é é"], command


def test_relative_names_start_from_the_users_folder(tmp_path: Path) -> None:
    assert "--images" not in arguments_of("run")
    assert value_of("--relative-to", arguments_of("run", PWD="/stale")) == str(ROOT)
    elsewhere = arguments_of("run", "-C", str(ROOT), cwd=str(tmp_path), PWD=str(tmp_path))
    assert value_of("--relative-to", elsewhere) == str(tmp_path)


@pytest.mark.parametrize(("command", "marker"), [("test", '-m "not soak"'), ("soak", '-m "soak or matrix"')])
def test_the_two_suites_together_run_every_test(command: str, marker: str) -> None:
    assert f"-m pytest {marker}" in make("--dry-run", command)


def test_scripts_parse() -> None:
    for pattern in ("scripts/*.sh", "include/cluster/*.sh", "docker/*.sh", "tests/*/*.sh", ".ci/run"):
        paths = list(ROOT.glob(pattern))
        assert paths, pattern
        for path in paths:
            subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("name", ["Makefile", "pyproject.toml", ".ci/run", "README.md", ".pre-commit-config.yaml"])
def test_no_path_of_one_machine_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.~$-])/(home|root|Users|work)/\w", text)
