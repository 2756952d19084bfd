from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

CONVERT = """
import pyarrow as pa, sys
table = pa.table({"path": ["a", None], "size": [1, 2]})
assert table["size"].to_numpy().sum() == 3 and pa.scalar("x").as_py() == "x"
print("pandas" in sys.modules)
"""
HIDE = "from spark_jobs.runtime import hidden_pandas; hidden_pandas.hide(); "
HIDE_IN_WORKER = "from spark_jobs.runtime import hidden_pandas; hidden_pandas.hide_in_worker(); "


@pytest.mark.parametrize(("first", "imported"), [("", "True"), (HIDE_IN_WORKER, "True"), (HIDE, "False")])
def test_pyarrow_imports_pandas_unless_it_is_hidden(first: str, imported: str) -> None:
    """The first case holds only as long as pyarrow does so; when it fails, the module is no longer needed."""
    code = [sys.executable, "-c", first + CONVERT]
    done = subprocess.run(code, cwd=REPOSITORY, env={"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{imported}\n", "")


def test_pandas_stays_where_it_is_in_use_and_says_so_where_it_is_hidden() -> None:
    program = f"import pandas; {HIDE}import pandas as again; again.DataFrame()"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        [sys.executable, "-c", f"{HIDE}import pandas"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: the processes of the jobs hide pandas: no job uses it"
