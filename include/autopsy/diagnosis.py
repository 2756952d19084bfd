"""Diagnose why a step failed, or a cluster before any step ran, from EMR's answers and from the logs. Pure.

Certain facts from EMR come first (the cluster ended, the time limit passed), then the job's own last error. If that
error only repeats another one, as Spark's often do, the rest of the driver's log and the failed containers decide. An
exhausted disk or limit of open files explains a module that cannot be imported, and an error of no known class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from include.autopsy.logs import RECORD, StepLogs, last_error, last_traceback, shorten
from include.autopsy.symptoms import (
    ADVICE,
    CONTAINER_REASON,
    EXHAUSTED,
    NO_CAPACITY,
    PLATFORM_ERROR,
    STRONG,
    WEAK,
    Kind,
    Symptom,
)
from include.records import JsonObject

MAX_EVIDENCE = 8
TIMEOUT_CODE = 124
"""Exit code of timeout(1) if the command ended on the first signal; 137 if it had to be killed."""
KILLED_CODE = 137
QUOTED_BY_JOBS = (Kind.DISK_FULL, Kind.OPEN_FILES, Kind.UNKNOWN_HOST, Kind.ACCESS_DENIED, Kind.BAD_INPUT)
"""Classes of a job's own error: a job also quotes errors of single images, which do not decide."""
UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Diagnosis:
    """Why a step or a cluster failed.

    Parameters
    ----------
    kind : Kind
        The class of the failure.
    cause : str
        The cause, in one sentence.
    evidence : tuple of str
        The lines that prove it.
    advice : str
        What to do.
    traceback : str
        The last complete Python traceback, or an empty text.
    containers : tuple of str
        The messages of Spark and YARN about failed containers.
    """

    kind: Kind
    cause: str
    evidence: tuple[str, ...]
    advice: str
    traceback: str = ""
    containers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Finding:
    kind: Kind
    cause: str
    evidence: tuple[str, ...] = ()


def diagnose(step: JsonObject, cluster: JsonObject | None, logs: StepLogs) -> Diagnosis:
    """Return why a step did not complete.

    Parameters
    ----------
    step : dict
        ``Step`` from DescribeStep.
    cluster : dict or None
        ``Cluster`` from DescribeCluster, if EMR answered.
    logs : StepLogs
        The step's logs, as far as they could be read.
    """
    finding = _from_cluster(step, cluster) or _from_time_limit(step, logs) or _from_logs(step, logs)
    return _conclude(finding, logs)


def diagnose_cluster(cluster: JsonObject, logs: StepLogs | None = None) -> Diagnosis:
    """Return why a cluster ended too early.

    Parameters
    ----------
    cluster : dict
        ``Cluster`` from DescribeCluster.
    logs : StepLogs, optional
        The logs of its bootstrap action, if that failed.
    """
    logs = logs or StepLogs(folder="")
    code, message = _reason(cluster)
    finding = _from_cluster_end(code, message)
    if finding is None:
        kind = Kind.CANCELLED if code == "USER_REQUEST" else Kind.UNKNOWN
        finding = _Finding(kind, message or f"EMR gives no reason ({cluster['Status'].get('State', '')})")
    if finding.kind is Kind.BOOTSTRAP and (error := last_error(logs.stderr) or last_error(logs.stdout)):
        finding = _Finding(Kind.BOOTSTRAP, f"{finding.cause}: {shorten(error)}", (*finding.evidence, shorten(error)))
    return _conclude(finding, logs)


def _conclude(finding: _Finding, logs: StepLogs) -> Diagnosis:
    driver = f"{logs.stderr}\n{logs.stdout}"
    tracebacks = [last_traceback(log.text) for log in logs.containers]
    traceback = last_traceback(logs.stdout) or last_traceback(logs.stderr) or next(filter(None, tracebacks), "")
    reasons = _unique(match.group() for match in CONTAINER_REASON.finditer(driver))
    return Diagnosis(finding.kind, finding.cause, finding.evidence, ADVICE[finding.kind], traceback, reasons)


def _reason(cluster: JsonObject) -> tuple[str, str]:
    change = cluster["Status"].get("StateChangeReason") or {}
    return str(change.get("Code") or ""), str(change.get("Message") or "")


def _from_cluster(step: JsonObject, cluster: JsonObject | None) -> _Finding | None:
    """Return the finding if the end of the cluster is why the step ended."""
    state = step["Status"]["State"]
    cancelled = state in ("CANCELLED", "CANCEL_PENDING", "INTERRUPTED")
    code, message = _reason(cluster) if cluster is not None else ("", "")
    finding = _from_cluster_end(code, message)
    # The teardown also terminates the cluster of a failed step: only an end that AWS caused explains the failure.
    if finding is not None and (cancelled or code in ("INSTANCE_FAILURE", "BOOTSTRAP_FAILURE")):
        return finding
    if not cancelled:
        return None
    message_of_step = str((step["Status"].get("StateChangeReason") or {}).get("Message") or "")
    if code == "USER_REQUEST":
        return _Finding(
            Kind.CANCELLED, f"the cluster was ended by a user's request ({message})", _unique([message_of_step])
        )
    return _Finding(
        Kind.CANCELLED, f"the step was cancelled{f': {message_of_step}' if message_of_step else ''}", _unique([message])
    )


def _from_cluster_end(code: str, message: str) -> _Finding | None:
    """Return the finding from a cluster's last reason; None if the reason is not a failure."""
    evidence = _unique([f"{code} {message}".strip()])
    if code == "BOOTSTRAP_FAILURE":
        return _Finding(Kind.BOOTSTRAP, message or "a bootstrap action failed", evidence)
    if code == "INSTANCE_FLEET_TIMEOUT" or NO_CAPACITY.search(message):
        return _Finding(Kind.LOST_CAPACITY, f"EMR could not get the instances: {message}", evidence)
    if code == "INSTANCE_FAILURE":
        return _Finding(Kind.LOST_CAPACITY, f"the cluster lost instances that it needs: {message}", evidence)
    if code in ("VALIDATION_ERROR", "INTERNAL_ERROR"):
        finding = _search(STRONG, [message])
        kind = finding.kind if finding is not None and finding.kind is Kind.ACCESS_DENIED else Kind.UNKNOWN
        return _Finding(kind, f"EMR ended the cluster: {message}", evidence)
    return None


def _from_time_limit(step: JsonObject, logs: StepLogs) -> _Finding | None:
    """Return the finding if the time limit in the step's command has passed."""
    limit = _limit_seconds(step)
    if limit is None:
        return None
    code, seconds = _exit_code(step, logs), _seconds(step)
    if code == TIMEOUT_CODE or (code == KILLED_CODE and seconds is not None and seconds >= limit):
        how = "stopped" if code == TIMEOUT_CODE else "killed, because it did not stop on the first signal,"
        evidence = [f"exit code {code} of timeout(1)", "" if seconds is None else f"the step took {seconds:.0f} s"]
        return _Finding(Kind.TIME_LIMIT, f"the step was {how} after its time limit of {limit:g} s", _unique(evidence))
    return None


def _exit_code(step: JsonObject, logs: StepLogs) -> int | None:
    if logs.exit_code is not None:
        return logs.exit_code
    match = re.search(r"exit code (-?\d+)", str((step["Status"].get("FailureDetails") or {}).get("Message") or ""))
    if match is None:
        return None
    code = int(match[1])
    return code if code >= 0 else 128 - code


def _limit_seconds(step: JsonObject) -> float | None:
    """Return the limit in a command ``timeout --OPTION=VALUE… DURATION …`` (:mod:`include.cluster.steps`), if any."""
    command, *words = (step.get("Config") or {}).get("Args") or [""]
    duration = next((word for word in words if not word.startswith("-")), "") if command == "timeout" else ""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", duration)
    return float(match[1]) * UNIT_SECONDS[match[2]] if match else None


def _seconds(step: JsonObject) -> float | None:
    timeline = step["Status"].get("Timeline") or {}
    begin, end = timeline.get("StartDateTime"), timeline.get("EndDateTime")
    return float((end - begin).total_seconds()) if begin and end else None


def _from_logs(step: JsonObject, logs: StepLogs) -> _Finding:
    details = str((step["Status"].get("FailureDetails") or {}).get("Message") or "")
    if not logs.stdout and not logs.stderr:
        logs = replace(logs, stdout=details)  # EMR's own excerpt of logs that could not be read
    error = last_error(logs.stdout) or _fatal(logs.stderr)
    finding = _from_error(error)
    if finding is None or finding.kind is Kind.MISSING_MODULE:
        finding = _from_other_lines(logs, (EXHAUSTED,)) or finding
    if finding is None and (not error or PLATFORM_ERROR.search(error)):
        finding = _from_other_lines(logs, (STRONG, WEAK))
    if finding is not None:
        return finding
    code = _exit_code(step, logs)
    if code == KILLED_CODE and not error.startswith("spark_jobs"):
        cause = "the driver was killed from outside, as the kernel does if the primary node has no free memory"
        return _Finding(Kind.OUT_OF_MEMORY, cause, _unique([f"exit code {code}", error]))
    if error:
        return _Finding(Kind.UNKNOWN, shorten(error), _unique([error]))
    cause = shorten(details) or (f"exit code {code}, and no error in its logs" if code is not None else "")
    return _Finding(Kind.UNKNOWN, cause or "EMR gives no reason, and there are no logs", _unique([details]))


def _fatal(stderr: str) -> str:
    """Return the error that ended the JVM of spark-submit itself."""
    lines = [line for line in stderr.splitlines() if line.startswith("Exception in thread")]
    return lines[-1].strip() if lines else ""


def _from_error(error: str) -> _Finding | None:
    """Return the finding from the job's last error, if that error is conclusive."""
    is_job_error = error.startswith("spark_jobs.errors.JobError")
    symptoms = [s for s in STRONG if not is_job_error or s.kind in QUOTED_BY_JOBS]
    finding = _search(symptoms, [error])
    if finding is None or finding.kind is not Kind.BAD_INPUT:
        return finding
    return _Finding(Kind.BAD_INPUT, shorten(error.removeprefix("spark_jobs.errors.JobError: ")), finding.evidence)


def _from_other_lines(logs: StepLogs, groups: Iterable[tuple[Symptom, ...]]) -> _Finding | None:
    """Return the finding from the driver's log, then from the containers' logs; the first group comes first."""
    driver = _suspicious_lines(f"{logs.stderr}\n{logs.stdout}")
    containers = [line for log in logs.containers for line in _suspicious_lines(log.text)]
    for symptoms in groups:
        for lines in (driver, containers):
            finding = _search(symptoms, lines)
            if finding is not None:
                return finding
    return None


def _suspicious_lines(text: str) -> list[str]:
    """Return the lines that may report a problem: no log records at INFO or below, and no stack frames."""
    lines = []
    for line in text.splitlines():
        record = RECORD.match(line)
        if (record is None or record["level"] not in ("TRACE", "DEBUG", "INFO")) and not line.startswith("\tat "):
            lines.append(line)
    return lines


def _search(symptoms: Iterable[Symptom], lines: list[str]) -> _Finding | None:
    for symptom in symptoms:
        matching = [line for line in lines if symptom.pattern.search(line)]
        if matching:
            evidence = _unique(matching)
            return _Finding(symptom.kind, f"{symptom.meaning}: {_excerpt(symptom, matching[-1])}", evidence)
    return None


def _excerpt(symptom: Symptom, line: str, width: int = 240) -> str:
    """Return the part of a line around a symptom: Spark's errors are pages long."""
    match = symptom.pattern.search(line)
    if match is None or len(line) <= 2 * width:
        return line.strip()
    begin, end = max(0, match.start() - width // 2), min(len(line), match.end() + width)
    return f"{'… ' if begin else ''}{line[begin:end].strip()}{' …' if end < len(line) else ''}"


def _unique(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the last few distinct lines, each cut to a maximum length."""
    distinct = dict.fromkeys(shorten(line) for line in lines if line.strip())
    return tuple(distinct)[-MAX_EVIDENCE:]
