"""Importing this module makes clients of AWS cheap: half a second of CPU time becomes a hundredth of it.

Processes that fork others import it (``tests/forks.py``, ``tests/end_to_end/warm_airflow.py``).
"""

from __future__ import annotations

import botocore.session

from tests.botocore_files import parse_once

parse_once()
for service in ("emr", "s3", "sts"):
    botocore.session.Session().create_client(service, region_name="eu-west-3")
