"""
### Erases photos and everything derived from them

Trigger it with paths or labels in the form. It deletes the photos, unless told not to, and everything derived from them
in every kept state: rows and moments in segments, scores, CSV, listings, rejects, reports, and on S3 all old versions
of these files. It publishes the states without them. A denylist of keyed hashes keeps the bytes from coming back.

| task | what it does |
| --- | --- |
| `forget_photos` | erases, searches again, and writes the receipt `erasures/<id>.json` |

**A run of `fruit_features` in progress** cannot publish afterwards: it fails, and the next run finds what has changed.

**Permissions.** Airflow's role needs the policy `ForErasurePolicy` of the stack in `infra/erasure.yaml`.

**When it fails**, the log gives the reason. Clear the task or trigger it again with the same form: an erasure that was
interrupted is completed. `make prove-erasure RECEIPT=…` reads the whole lake and looks for traces. `docs/erasure.md`
explains what is erased, and what remains: Airflow itself keeps the form of this run in its database.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from include.settings.dag_arguments import common_arguments
from include.settings.dag_ids import FORGET_DAG
from include.settings.deployment import read_settings
from include.settings.form import forget_params
from include.tasks import forget

settings = read_settings()

with DAG(
    dag_id=FORGET_DAG,
    doc_md=__doc__,
    description="Erases photos and everything derived from them, in every kept state and old version",
    schedule=None,
    params=forget_params(),
    tags=["fruits", "erasure"],
    **common_arguments(settings),
) as dag:
    task(multiple_outputs=True)(forget.forget_photos)()
