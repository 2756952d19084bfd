"""Processes of the jobs hide pandas.

No job uses pandas, but pyarrow imports it at the first conversion of a Python value, to recognise its types
(``pyarrow/pandas-shim.pxi``). That takes 0.4 s in the driver and in every worker, half of what all other imports take.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder

VARIABLE = "FRUITS_HIDE_PANDAS"
"""Environment variable that is set in the workers of a job. Other processes that run a job's code keep pandas."""


class _Hidden(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        """Raise for pandas; other finders find everything else."""
        if fullname == "pandas":
            raise ModuleNotFoundError("the processes of the jobs hide pandas: no job uses it", name=fullname)


_FINDER = _Hidden()


def hide() -> None:
    """Hide pandas from the imports of this process; if it is already imported, nothing happens."""
    if "pandas" not in sys.modules and _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def hide_in_worker() -> None:
    """Hide pandas if this process is a worker of a job."""
    if VARIABLE in os.environ:
        hide()
