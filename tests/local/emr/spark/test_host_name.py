"""A step runs on a machine whose own host name does not resolve."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local.emr.spark import host_name
from local.emr.spark.host_name import name_environment

RENAMED = ["unshare", "--map-root-user", "--uts"]
"""Run a command in a namespace of its own, where it may change the host name."""

SUBMIT = """
import os, socket, sys
from pathlib import Path
from local.emr.spark.environment import step_environment
from local.emr.spark.host_name import name_environment
from local.emr.spark.spark_home import prepared_home
socket.sethostname("nowhere-xyz.invalid")
home = prepared_home()
job, scratch, resolved = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "resolved"
environment = step_environment(os.environ, python=sys.executable, spark_home=home, scratch=scratch)
environment |= name_environment(scratch) if resolved else {}
os.execve(f"{home}/bin/spark-submit", ["spark-submit", "--master", "local[1]", str(job)], environment)
"""


def test_java_gets_a_file_of_names_only_if_the_own_name_does_not_resolve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert name_environment(tmp_path) == {}
    monkeypatch.setattr(socket, "gethostname", lambda: "nowhere-xyz.invalid")
    monkeypatch.setattr(host_name, "SYSTEM_HOSTS", tmp_path / "system")
    (tmp_path / "system").write_text("10.0.0.7 store")
    assert name_environment(tmp_path) == {"JDK_JAVA_OPTIONS": f'"-Djdk.net.hosts.file={tmp_path}/hosts"'}
    lines = (tmp_path / "hosts").read_text().splitlines()
    assert lines == ["10.0.0.7 store", "127.0.0.1 localhost nowhere-xyz.invalid"]


@pytest.mark.slow  # starts Spark
def test_spark_with_aws_keys_runs_on_a_machine_whose_name_does_not_resolve(tmp_path: Path) -> None:
    if subprocess.run([*RENAMED, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no namespace for host names")
    job, scratch = tmp_path / "job.py", tmp_path / "été 1"
    scratch.mkdir()
    job.write_text(
        "from pyspark import SparkConf, SparkContext\n"
        "sc = SparkContext(conf=SparkConf().set('spark.ui.enabled', 'false'))\n"
        "print('rows:', sc.parallelize(range(3)).count())\n"
    )
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}

    def run(how: str) -> str:
        command = [*RENAMED, sys.executable, "-c", SUBMIT, str(job), str(scratch), how]
        done = subprocess.run(command, env=os.environ | keys, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "UnknownHostException: nowhere-xyz.invalid" in run("unresolved"), "this test must see the problem"
    assert "rows: 3" in run("resolved")
