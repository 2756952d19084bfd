"""
### Fruit photos to features and principal components

Every day, the photos under the lake's `data/` become MobileNetV2 features (1280 numbers an image) and as many
principal components as explain 80 % of their variance, on an EMR cluster that exists only while it works.

| task | what it does |
| --- | --- |
| `open_run` | names the run; checks settings, regions, access, images and model before all else |
| `plan_cluster` | builds the requests of cluster and steps; forecasts the cost, and stops above `max_cost_eur` |
| `publish_code` | puts the job package into the lake, by its digest |
| `create_cluster` | makes the cluster, or attaches to the one of an earlier try |
| `add_featurize`, `wait_featurize` | images → `runs/<slug>/features`, `rejects`; looks first where the cluster is |
| `add_pca`, `wait_pca` | features → `runs/<slug>/pca`: scores, model, CSV |
| `terminate_cluster` | always ends the cluster, also after a failure |
| `report_cost` | what the cluster has cost, from what EMR says ran: in its log and `runs/<slug>/cost.json` |
| `verify_results` | rows, dimensions, NaN, k and variance against the job's own listing |
| `publish_results` | brings `results/`, `results_csv/` and `current.json` up to date; writes report and manifest |
| `close_run` | fails unless every other task has succeeded: the run is green only when its results are published |

**Settings.** `FRUITS_LAKE` (or the Variable `fruits_lake`), the lake's root such as `s3://bucket`, is the only one
without a default. All of them are listed in `docs/dags.md`; those of one run are in the trigger form.

**Before the first run**, `make publish ROOT=s3://bucket`: model, code, and the packages of the nodes. An account is
made ready as `docs/runbook.md` says.

**Idempotence.** A run writes under `runs/<slug>/` only, and replaces what its failed try has left there. What people
read changes in `publish_results` alone, after verification: a failed run leaves it untouched. A task that is tried
again attaches to the cluster and the step that its earlier try has made.

**Clearing.** To repeat a step that failed, clear its `add_` task with all that follows: that makes one new cluster, and
keeps what completed steps have written. A `wait_` task cleared by itself runs nothing, and says so. Clearing
`verify_results` or `publish_results` makes no cluster. To repeat everything, clear `open_run` with all that follows.

**Compared with the run before.** `open_run` notes the run that is published; the pca job tells how the features have
changed since. Drift beyond `FRUITS_DRIFT_THRESHOLD` is a warning in the log of `publish_results` and in the report,
never a failure; what it means is in `docs/quality.md`. `reports/` has the reports of all runs as one table.

**When it fails.** The log of the task that failed says why; that of a `wait_` task has the class of the failure, what
to do, the traceback and the ends of the logs. The cluster is gone by then. Correct the cause, then clear as above, or
trigger a new run. When `terminate_cluster` itself fails, the cluster's idle time-out ends it, or else `fruit_reaper`.

**Marked failed by hand** (or marked success before it has published), a run ends red in `close_run`: what was running
is failed, what was pending skipped, the running step cancelled, the cluster ended, nothing published. A cluster whose
request was cut off is looked for during a minute.

**Other DAGs** follow the published results by scheduling on `Asset("fruit_features_results")`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, task

from include import tasks
from include.operators.emr import ATTESTATION, CLUSTER_ID, AddSteps, CreateCluster, StepSensor, TerminateCluster
from include.operators.links import ReportLink
from include.settings.deployment import read_settings
from include.settings.form import MAX_STEP_MINUTES, run_params
from include.settings.notifiers import failure_notifier

settings = read_settings()
notifier = failure_notifier(settings)
RESULTS = Asset("fruit_features_results")
CLUSTER_START = timedelta(hours=1)

with DAG(
    dag_id="fruit_features",
    doc_md=__doc__,
    description="Fruit photos to MobileNetV2 features and principal components, on a transient EMR cluster",
    schedule=settings.schedule,
    start_date=settings.schedule_start,
    catchup=False,
    max_active_runs=1,
    params=run_params(settings.architecture, settings.max_cost_eur),
    tags=["fruits", "emr", "spark"],
    default_args={
        "owner": settings.owner,
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_delay_seconds),
    },
    on_failure_callback=notifier,
) as dag:
    aws = {"aws_conn_id": settings.aws_conn_id, "region_name": settings.region}
    waiting = {
        "mode": "reschedule",
        "poke_interval": settings.poke_interval_seconds,
        "timeout": (timedelta(minutes=MAX_STEP_MINUTES) + CLUSTER_START).total_seconds(),
    }

    open_run = task(tasks.open_run)()
    plan_cluster = task(multiple_outputs=True)(tasks.plan_cluster)(open_run)
    publish_code = task(tasks.publish_code)(open_run, plan_cluster["code"])

    cluster_of = {"run": open_run, "job_flow_overrides": plan_cluster["job_flow_overrides"], **aws}
    create_cluster = CreateCluster(task_id="create_cluster", **cluster_of)
    add_featurize = AddSteps(
        task_id="add_featurize",
        job_flow_id=create_cluster.output,
        steps=plan_cluster["featurize_steps"],
        **cluster_of,
    )
    wait_featurize = StepSensor(task_id="wait_featurize", add_task_id="add_featurize", run=open_run, **waiting, **aws)
    add_pca = AddSteps(
        task_id="add_pca", job_flow_id=create_cluster.output, steps=plan_cluster["pca_steps"], **cluster_of
    )
    wait_pca = StepSensor(task_id="wait_pca", add_task_id="add_pca", run=open_run, **waiting, **aws)
    terminate_cluster = TerminateCluster(
        task_id="terminate_cluster",
        run=open_run,
        makers=("create_cluster", "add_featurize", "add_pca"),
        **aws,
    )
    report_cost = task(tasks.report_cost)(open_run)
    verify_results = task(tasks.verify_results)(open_run)
    publish_results = task(outlets=[RESULTS])(tasks.publish_results)(
        open_run,
        verify_results,
        plan={"code": plan_cluster["code"], "forecast": plan_cluster["forecast"]},
        made={"cluster_id": add_pca.output[CLUSTER_ID], "attestation": add_pca.output[ATTESTATION]},
        cost=report_cost,
    )

    publish_results.operator.operator_extra_links = (ReportLink(),)
    close_run = task(tasks.close_run)()

    open_run >> plan_cluster >> publish_code >> create_cluster >> add_featurize >> wait_featurize >> add_pca >> wait_pca
    # The teardown's setup is open_run, not create_cluster: a create that fails after RunJobFlow has made a cluster.
    wait_pca >> terminate_cluster.as_teardown(setups=open_run, on_failure_fail_dagrun=True)
    # Told before anything is published, so that the manifest has it; a teardown, so that a failed run tells it, too.
    terminate_cluster >> report_cost.as_teardown() >> publish_results
    wait_pca >> verify_results >> publish_results
    # The only leaf, so that it alone says how the run ended. A teardown, since marking a run skips all but these;
    # without setups, since clearing verify_results must not clear open_run.
    [terminate_cluster, publish_results] >> close_run.as_teardown(on_failure_fail_dagrun=True)
