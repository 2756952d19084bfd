"""The environment variables of a step."""

from __future__ import annotations

from pathlib import Path

from local.emr.spark.environment import step_environment

SERVER = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "JAVA_HOME": "/java",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333",
    "PYTHONPATH": "/repo",
    "SPARK_CONF_DIR": "/elsewhere",
    "LC_ALL": "C",
    "OTHER_VARIABLE": "x",
    "WANTED": "y",
}


def environment(extra_names: tuple[str, ...] = ()) -> dict[str, str]:
    return step_environment(
        SERVER, python="/venv/bin/python", spark_home=Path("/spark"), scratch=Path("/a b"), extra_names=extra_names
    )


def test_variables_of_the_repository_and_the_shell_are_not_inherited() -> None:
    assert not {"PYTHONPATH", "SPARK_CONF_DIR", "OTHER_VARIABLE"} & environment().keys()


def test_java_and_aws_variables_are_kept_and_others_on_request() -> None:
    kept = environment(extra_names=("WANTED",))
    names = ("HOME", "JAVA_HOME", "AWS_ENDPOINT_URL_S3", "WANTED")
    assert {name: kept[name] for name in names} == {name: SERVER[name] for name in names}


def test_interpreter_locale_and_addresses_are_those_of_the_endpoint() -> None:
    ours = environment()
    assert ours["PYSPARK_PYTHON"] == ours["PYSPARK_DRIVER_PYTHON"] == "/venv/bin/python"
    assert ours["PATH"] == "/venv/bin:/bin"
    assert (ours["LC_ALL"], ours["PYTHONUTF8"]) == ("C.UTF-8", "1")
    assert (ours["SPARK_LOCAL_IP"], ours["SPARK_LOCAL_DIRS"]) == ("127.0.0.1", "/a b")
    assert ours["PYTHONDONTWRITEBYTECODE"] == "1"
