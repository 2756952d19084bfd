"""What every test gets: an Airflow of its own, and no way to a real AWS account."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

# Airflow reads its configuration when it is first imported, so this cannot wait for a fixture.
for _name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW", "FRUITS_", "SPARK_", "PYSPARK_"))]:
    del os.environ[_name]
_home = tempfile.mkdtemp(prefix="fruit-features-tests-")
os.environ |= {
    "AIRFLOW_HOME": _home,
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home}/airflow.db",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "eu-west-3",
    # Nothing listens here: a test that calls AWS without its own endpoint fails at once.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}

# The machine that runs the tests may be slow, or busy: an example has no time limit.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared photos and weights; a test that can do without them falls back on generated ones."""
    return SHARED
