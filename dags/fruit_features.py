"""
### Fruit photos to features and principal components

Every day, this DAG computes MobileNetV2 features (1280 numbers per image) of the photos under the lake's `data/` that
are new or have changed, and as many principal components of all photos as explain 80 % of the variance. The work runs
on an EMR cluster that exists only during the run. If nothing has changed, no cluster is created.

| task | what it does |
| --- | --- |
| `open_run` | names the run; checks settings, parameters, regions, access and model |
| `find_changes` | compares the images with the published state: new, changed, gone; writes the work list |
| `plan_cluster` | skips the rest if nothing has changed; sizes the cluster by the work; checks the cost forecast |
| `publish_code` | uploads the job package to the lake, under its digest |
| `create_cluster` | creates the cluster, or attaches to the one that an earlier attempt created |
| `add_featurize`, `wait_featurize` | check where the cluster is; work list → segments of features and rejects |
| `add_pca`, `wait_pca` | features of all segments → `runs/<slug>/pca`: scores, model, CSV |
| `terminate_cluster` | always terminates the cluster, also after a failure |
| `report_cost` | computes the cost from what EMR reports; writes it to its log and `runs/<slug>/cost.json` |
| `verify_results` | checks rows, dimensions, NaN, k and variance against the listing |
| `publish_results` | writes report and manifest, moves `current.json`, updates `results/` and `results_csv/` |
| `close_run` | fails unless all other tasks succeeded, and then writes the report of the failed run |

**Settings.** Only `FRUITS_LAKE` (or the Airflow Variable `fruits_lake`) has no default: the root of the lake, such as
`s3://bucket`. `docs/dags.md` lists all settings; the trigger form shows the parameters of a run.

**Before the first run**, `make publish ROOT=s3://bucket` uploads the model, the code and the nodes' packages.
`docs/runbook.md` explains how to prepare an AWS account.

**The published state.** Features are in immutable segments. A manifest names the segments of a state, and
`current.json` names the manifest of the published state. It is moved last, in one write, and only if no other run has
moved it: readers that start from it never see half a state. `docs/lake.md` explains the lake.

**The size of the cluster.** `plan_cluster` chooses the fewest worker nodes with which the run should meet
`deadline_minutes`, between `min_worker_nodes` and `max_worker_nodes`. On a small day the primary node works alone. The
log and the XCom `summary` of the task show the plan: images, nodes, minutes, euros, and how much of it is start and
stop. `docs/cluster.md` explains it.

**Idempotence.** A run writes only under `runs/<slug>/`, and new segments. Only `publish_results` changes what readers
see, after verification: a failed run changes nothing. A retried task attaches to
the cluster and the step that its earlier attempt created; before it creates a new cluster, also after clearing, it
searches for one minute, because EMR may list a cluster late.

**Clearing.** To repeat a failed step, clear its `add_` task with its downstream tasks: this creates one new cluster and
keeps the output of completed steps. Clearing only a `wait_` task runs nothing; its log says so. Clearing
`verify_results` or `publish_results` creates no cluster. To repeat everything, or a run that has published, clear
`open_run` with its downstream tasks: the repetition writes into a folder of its own.

**Comparison with the previous run.** `open_run` records which run is published; the pca job measures how much the
features have changed since. A drift above `FRUITS_DRIFT_THRESHOLD` is a warning in the log of `publish_results` and in
the report, never a failure. `docs/quality.md` explains it. `reports/` contains the reports of all runs as one table,
failed runs included.

**When a run fails.** The log of the failed task gives the reason. The log of a `wait_` task contains the kind of
failure, what to do, the traceback and the ends of the step's logs. `close_run` writes `runs/<slug>/report.html`: the
failed tasks, their causes, and which run is published still. The cluster has already been terminated. Fix the
cause, then clear as above or trigger a new run. If `terminate_cluster` itself fails, the idle timeout or
`fruit_reaper` terminates the cluster.

**When a person marks a run as failed** (or as successful before it has published), `close_run` fails. Running tasks
fail and pending tasks are skipped. The running step is cancelled, the cluster is terminated, and nothing is published.
If a request to create a cluster was interrupted, `terminate_cluster` searches for that cluster for one minute.

**Other DAGs** can follow the published results by scheduling on `Asset("fruit_features_results")`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Asset, task

from include.autopsy.task_failure import record_failure
from include.operators.add_steps import AddSteps
from include.operators.create_cluster import CreateCluster
from include.operators.links import ReportLink
from include.operators.step_sensor import StepSensor
from include.operators.terminate_cluster import TerminateCluster
from include.records import ATTESTATION, CLUSTER_ID
from include.settings.dag_arguments import common_arguments
from include.settings.dag_ids import FEATURES_DAG
from include.settings.deployment import read_settings
from include.settings.form import run_params
from include.settings.parameters import MAX_STEP_MINUTES
from include.tasks import changes, plan, results, run

settings = read_settings()
RESULTS = Asset("fruit_features_results")
CLUSTER_START = timedelta(hours=1)
"""Time that the sensors allow for the start of the cluster, in addition to the longest step."""

with DAG(
    dag_id=FEATURES_DAG,
    doc_md=__doc__,
    description="Fruit photos to MobileNetV2 features and principal components, on a transient EMR cluster",
    schedule=settings.schedule,
    params=run_params(settings.architecture, settings.max_cost_eur),
    tags=["fruits", "emr", "spark"],
    **common_arguments(settings, on_failure_callback=record_failure),
) as dag:
    aws = {"aws_conn_id": settings.aws_conn_id, "region_name": settings.region}
    waiting = {
        "mode": "reschedule",
        "poke_interval": settings.poke_interval_seconds,
        "timeout": (timedelta(minutes=MAX_STEP_MINUTES) + CLUSTER_START).total_seconds(),
    }

    # Multiple outputs: each entry of the record is an XCom of its own, which links, tasks and people can read.
    open_run = task(multiple_outputs=True)(run.open_run)()
    find_changes = task(multiple_outputs=True)(changes.find_changes)(open_run)
    plan_cluster = task(multiple_outputs=True)(plan.plan_cluster)(open_run, find_changes)
    publish_code = task(plan.publish_code)(open_run, plan_cluster["code"])

    cluster_of = {"run": open_run, "job_flow_overrides": plan_cluster["job_flow_overrides"], **aws}
    create_cluster = CreateCluster(task_id="create_cluster", **cluster_of)
    add_featurize = AddSteps(
        task_id="add_featurize",
        job_flow_id=create_cluster.output,
        steps=plan_cluster["featurize_steps"],
        found=find_changes,
        **cluster_of,
    )
    wait_featurize = StepSensor(task_id="wait_featurize", add_task_id="add_featurize", run=open_run, **waiting, **aws)
    add_pca = AddSteps(
        task_id="add_pca",
        job_flow_id=create_cluster.output,
        steps=plan_cluster["pca_steps"],
        found=find_changes,
        **cluster_of,
    )
    wait_pca = StepSensor(task_id="wait_pca", add_task_id="add_pca", run=open_run, **waiting, **aws)
    terminate_cluster = TerminateCluster(
        task_id="terminate_cluster",
        run=open_run,
        creators=("create_cluster", "add_featurize", "add_pca"),
        **aws,
    )
    report_cost = task(results.report_cost)(open_run, find_changes)
    verify_results = task(multiple_outputs=True)(results.verify_results)(open_run, find_changes, plan_cluster["jobs"])
    publish_results = task(multiple_outputs=True, outlets=[RESULTS])(results.publish_results)(
        open_run,
        find_changes,
        verify_results,
        plan={name: plan_cluster[name] for name in ("code", "forecast", "sizing")},
        created={"cluster_id": add_pca.output[CLUSTER_ID], "attestation": add_pca.output[ATTESTATION]},
        cost=report_cost,
    )

    publish_results.operator.operator_extra_links = (ReportLink(),)
    close_run = task(run.close_run)()
    close_run.operator.operator_extra_links = (ReportLink(),)

    open_run >> find_changes >> plan_cluster >> publish_code >> create_cluster
    create_cluster >> add_featurize >> wait_featurize >> add_pca >> wait_pca
    # The setup of this teardown is open_run, not create_cluster: create_cluster may fail after EMR created the cluster.
    wait_pca >> terminate_cluster.as_teardown(setups=open_run, on_failure_fail_dagrun=True)
    # Before publishing, so that the manifest contains the cost; a teardown, so that a failed run reports its cost too.
    terminate_cluster >> report_cost.as_teardown() >> publish_results
    wait_pca >> verify_results >> publish_results
    # The only leaf, so that it alone decides the state of the run. A teardown, since marking a run skips all other
    # tasks; without setups, since clearing verify_results must not clear open_run.
    # It waits for report_cost too: if nothing has changed, publish_results is skipped before that task has ended.
    [terminate_cluster, report_cost, publish_results] >> close_run.as_teardown(on_failure_fail_dagrun=True)
