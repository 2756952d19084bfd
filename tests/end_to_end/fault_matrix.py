"""The fault matrix: each fault, when it occurs, and the expected end of the run.

``test_fault_matrix.py`` tests each cell.
``make soak`` writes ``docs/fault-matrix.md`` from these cells and from its results.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

API_CALLS = (
    *("RunJobFlow", "ListClusters", "DescribeCluster", "AddJobFlowSteps", "ListSteps", "DescribeStep"),
    *("TerminateJobFlows", "ListInstances", "ListInstanceFleets"),
)
"""The EMR actions that a run calls. It calls CancelSteps only when a step still runs at the end."""

THROTTLED = {"error": "ThrottlingException", "message": "Rate exceeded"}
STEPS = ("featurize", "pca")
MANY: dict[str, Any] = {"copies": 60, "conf": {"images_per_task": 50}}
MANY_ON_SPOT: dict[str, Any] = {"copies": 60, "conf": {"images_per_task": 50, "min_worker_nodes": 4}}
"""So few photos would get a single node."""

EXECUTORS = ("--master", "local-cluster[2,1,1024]")
"""Separate executor processes, as on a cluster."""

Phase = Literal["create", "featurize", "pca", "teardown"]


@dataclass(frozen=True)
class Cell:
    """One fault.

    Parameters
    ----------
    fault, when : str
        The fault and when it occurs, as people read them.
    ends : str
        Expected state of the run.
    scenario : dict
        The endpoint's fault scenario.
    phase : str, optional
        The test sets the scenario when the run reaches this phase; by default, from the start.
    logged : tuple of str
        Texts that the tasks' logs must contain.
    arguments : tuple of str
        More arguments for the endpoint.
    publishes : bool
        Whether the run publishes its results; by default, if it succeeds.
    reaped : bool
        Whether the run leaves a protected cluster behind. The reaper must report it, and terminate it when somebody has
        removed the protection.
    earlier_round : dict, optional
        The scenario of an earlier round of the same run, whose cluster is still live.
    copies : int
        Number of copies of each picture. Many copies make a step last long enough to be hit in its middle.
    subset : bool
        Whether ``make test`` runs the cell, too.
    """

    fault: str
    when: str
    ends: Literal["success", "failed"]
    scenario: dict[str, Any]
    phase: Phase | None = None
    logged: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    conf: dict[str, Any] = field(default_factory=dict)
    publishes: bool | None = None
    reaped: bool = False
    earlier_round: dict[str, Any] | None = None
    copies: int = 1
    subset: bool = False

    @property
    def name(self) -> str:
        """The name of its test."""
        return f"{self.fault}, {self.when}"

    @property
    def published(self) -> bool:
        """Whether the run publishes its results."""
        return self.ends == "success" if self.publishes is None else self.publishes


def _api() -> list[Cell]:
    each = [
        Cell("throttled three times", f"in {call}", "success", {"api": [{"action": call, "times": 3, **THROTTLED}]})
        for call in API_CALLS
    ]
    every = [{"action": call, "times": 2, **THROTTLED} for call in API_CALLS]
    phases: tuple[Phase, ...] = ("create", "featurize", "pca", "teardown")
    down = {"action": "*", "for_seconds": 60, "error": "ServiceUnavailable", "http_status": 503}
    silent = {"action": "*", "for_seconds": 60, "drops": True}
    return [
        *each,
        Cell("throttled twice", "in every call", "success", {"api": every}),
        *(Cell("API down for a minute", f"in {phase}", "success", {"api": [down]}, phase) for phase in phases),
        *(Cell("API silent for a minute", f"in {phase}", "success", {"api": [silent]}, phase) for phase in phases),
        Cell(
            "answers shuffled, in small pages and with the state of 5 s ago",
            "in every call",
            "success",
            {},
            arguments=("--shuffle", "14", "--page-size", "1", "--staleness", "5"),
        ),
        Cell(
            "answers 3 s late", "in every call", "success", {"api": [{"action": "*", "times": 30, "delay_seconds": 3}]}
        ),
        *(
            Cell(
                "answered after the caller has given up",
                f"in {call}",
                "success",
                {"api": [{"action": call, "when": "after", "delay_seconds": 70}]},
            )
            for call in ("RunJobFlow", "AddJobFlowSteps", "TerminateJobFlows")
        ),
        *(
            Cell(
                "failed within, though it took effect",
                f"in {call}",
                "success",
                {"api": [{"action": call, "when": "after", "error": "InternalServerError", "http_status": 500}]},
            )
            for call in ("RunJobFlow", "AddJobFlowSteps", "TerminateJobFlows")
        ),
    ]


def _clusters() -> list[Cell]:
    def cluster(fails: str, **more: Any) -> dict[str, Any]:
        return {"clusters": [{"fails": fails, **more}]}

    return [
        Cell(
            "bootstrap failure",
            "at the start",
            "failed",
            cluster("bootstrap", stderr="ERROR: no matching distribution found for numpy"),
            logged=("Why it failed: BOOTSTRAP", "no matching distribution found for numpy"),
            subset=True,
        ),
        Cell(
            "insufficient capacity",
            "at the start",
            "failed",
            cluster("capacity"),
            logged=("Why it failed: LOST CAPACITY",),
        ),
        *(
            Cell(
                "cluster terminated by someone",
                f"in {step}",
                "failed",
                {"clusters": [{"fails": "terminated", "after_seconds": 1, "skip": skip}]},
                logged=("Why it failed: CANCELLED", "user"),
                subset=step == "featurize",
            )
            for skip, step in enumerate(STEPS)
        ),
        *(
            Cell(
                "cluster protected by someone",
                f"in {step}",
                "failed",
                {"clusters": [{"fails": "protected", "skip": skip}]},
                logged=("termination protected",),
                publishes=True,
                reaped=True,
            )
            for skip, step in enumerate(STEPS)
        ),
        Cell(
            "cluster of an earlier round attached",
            "and featurize fails",
            "failed",
            {"steps": [{"name": "featurize*", "exit_code": 3, "stderr": "OSError: no space left on device"}]},
            logged=("has the tag of this round", "Why it failed: DISK FULL", "no space left on device"),
            earlier_round={
                "steps": [{"name": "featurize*", "exit_code": 3, "stderr": "RuntimeError: the first round"}],
                "api": [{"action": "TerminateJobFlows", "error": "AccessDeniedException", "times": "forever"}],
            },
        ),
        *(
            Cell(
                "primary node lost",
                f"in {step}",
                "failed",
                {"clusters": [{"fails": "lost", "after_seconds": 1, "skip": skip}]},
                logged=("Why it failed: LOST CAPACITY",),
            )
            for skip, step in enumerate(STEPS)
        ),
        *(
            Cell(
                "spot instance lost",
                f"in {step}",
                "success",
                {"steps": [{"name": f"{step}*", "kills": "executor", "at_percent": 1}]},
                arguments=EXECUTORS,
                **MANY_ON_SPOT,
            )
            for step in STEPS
        ),
    ]


def _steps() -> list[Cell]:
    return [
        *(
            Cell(
                "step hangs past its limit",
                f"in {step}",
                "failed",
                {"steps": [{"name": f"{step}*", "hangs": True, "limit_seconds": 3}]},
                logged=("Why it failed: TIME LIMIT",),
            )
            for step in STEPS
        ),
        Cell(
            "step hangs past its limit and ignores SIGTERM",
            "in featurize",
            "failed",
            # At real speed: timeout(1) kills a minute after the limit. Exit code 137 alone may mean a lack of memory,
            # so the autopsy compares the duration of the step with the limit in its command.
            {"steps": [{"name": "featurize*", "hangs": True, "ignores_term": True}]},
            logged=("Why it failed: TIME LIMIT",),
            conf={"step_time_limit_minutes": 1},
        ),
        *(
            Cell(
                f"driver killed at {percent} %",
                f"in {step}",
                "failed",
                {"steps": [{"name": f"{step}*", "kills": "driver", "at_percent": percent, "progress": phase}]},
                logged=("Why it failed:",),
                **MANY,
            )
            for step, percent, phase in (
                *(("featurize", percent, "featurize") for percent in (0, 50, 99)),
                *(("pca", percent, phase) for percent, phase in ((0, "*"), (50, "*"), (99, "pca-scores"))),
            )
        ),
    ]


def _logs() -> list[Cell]:
    failing = {"steps": [{"name": "pca*", "exit_code": 3, "stderr": "OSError: no space left on device"}]}
    return [
        Cell("log bucket not writable", "always", "success", {"logs": [{"refused": True, "times": "forever"}]}),
        Cell(
            "log bucket not writable",
            "and pca fails",
            "failed",
            failing | {"logs": [{"refused": True, "times": "forever"}]},
            logged=("no space left on device",),
        ),
        Cell(
            "logs 20 s late",
            "and pca fails",
            "failed",
            failing | {"logs": [{"delay_seconds": 20, "times": "forever"}]},
            logged=("no space left on device", "Last lines of"),
        ),
    ]


CELLS = (*_api(), *_clusters(), *_steps(), *_logs())

TASKS = (
    *("open_run", "find_changes", "plan_cluster", "publish_code", "create_cluster", "add_featurize", "wait_featurize"),
    *("add_pca", "wait_pca", "terminate_cluster", "report_cost", "verify_results", "publish_results", "close_run"),
)
TASK_KILLED, WORKER_KILLED, MARKED_FAILED = "task process killed", "worker killed with its task", "run marked failed"

ACCIDENTS = {TASK_KILLED: TASKS, WORKER_KILLED: TASKS, MARKED_FAILED: TASKS[:-1]}
"""What happens to tasks of a run under Airflow's scheduler: the cells of ``test_recovery.py``."""


def all_cells() -> set[tuple[str, str]]:
    """Return fault and time of every cell."""
    accidents = {(fault, f"in {task}") for fault, tasks in ACCIDENTS.items() for task in tasks}
    return accidents | {(cell.fault, cell.when) for cell in CELLS}
