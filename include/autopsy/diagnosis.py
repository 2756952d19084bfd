"""Why a step failed, or a cluster before any step ran: from what EMR says and from the logs. Pure.

What EMR knows for sure counts first (the cluster ended, the limit passed), then the job's own last error, then, where
that is only Spark's echo of something else, what the rest of the driver's log and the failed containers say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from include.autopsy.step_logs import RECORD, StepLogs, last_error, last_traceback, shorten
from include.autopsy.symptoms import ADVICE, CONTAINER_REASON, NO_CAPACITY, OF_THE_PLATFORM, STRONG, WEAK, Kind, Symptom

MOST_EVIDENCE = 8
TIMEOUT_CODE = 124
"""What timeout(1) returns when its command ended on the first signal; 137 when it had to kill it."""
KILLED_CODE = 137
UNIT_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Diagnosis:
    """Why something failed.

    Parameters
    ----------
    kind : Kind
        Its class.
    cause : str
        One sentence.
    evidence : tuple of str
        The lines that say so.
    advice : str
        What to do.
    traceback : str
        The last whole Python traceback; empty when there is none.
    containers : tuple of str
        What Spark and YARN say of the containers that failed.
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


def diagnose(step: Mapping[str, Any], cluster: Mapping[str, Any] | None, logs: StepLogs) -> Diagnosis:
    """Return why a step did not complete.

    Parameters
    ----------
    step : mapping
        ``Step`` of EMR's DescribeStep.
    cluster : mapping or None
        ``Cluster`` of EMR's DescribeCluster, when it answered.
    logs : StepLogs
        What could be read of its logs.
    """
    finding = _of_cluster(step, cluster) or _of_limit(step, logs) or _of_logs(step, logs)
    return _conclude(finding, logs)


def diagnose_cluster(cluster: Mapping[str, Any], logs: StepLogs | None = None) -> Diagnosis:
    """Return why a cluster ended before it was told to.

    Parameters
    ----------
    cluster : mapping
        ``Cluster`` of EMR's DescribeCluster.
    logs : StepLogs, optional
        The logs of its bootstrap action, when that failed.
    """
    logs = logs or StepLogs(folder="")
    code, message = _reason(cluster)
    finding = _of_ending(code, message)
    if finding is None:
        kind = Kind.CANCELLED if code == "USER_REQUEST" else Kind.UNKNOWN
        finding = _Finding(kind, message or f"EMR gives no reason ({cluster['Status'].get('State', '')})")
    if finding.kind is Kind.BOOTSTRAP and (error := last_error(logs.stderr) or last_error(logs.stdout)):
        finding = _Finding(Kind.BOOTSTRAP, f"{finding.cause}: {shorten(error)}", (*finding.evidence, shorten(error)))
    return _conclude(finding, logs)


def _conclude(finding: _Finding, logs: StepLogs) -> Diagnosis:
    driver = f"{logs.stderr}\n{logs.stdout}"
    of_containers = [last_traceback(log.text) for log in logs.containers]
    traceback = last_traceback(logs.stdout) or last_traceback(logs.stderr) or next(filter(None, of_containers), "")
    reasons = _unique(match.group() for match in CONTAINER_REASON.finditer(driver))
    return Diagnosis(finding.kind, finding.cause, finding.evidence, ADVICE[finding.kind], traceback, reasons)


def _reason(cluster: Mapping[str, Any]) -> tuple[str, str]:
    change = cluster["Status"].get("StateChangeReason") or {}
    return str(change.get("Code") or ""), str(change.get("Message") or "")


def _of_cluster(step: Mapping[str, Any], cluster: Mapping[str, Any] | None) -> _Finding | None:
    """Return what the end of the cluster tells of the step, if that is why it ended."""
    state = step["Status"]["State"]
    cancelled = state in ("CANCELLED", "CANCEL_PENDING", "INTERRUPTED")
    code, message = _reason(cluster) if cluster is not None else ("", "")
    finding = _of_ending(code, message)
    # A cluster is ended after a step has failed too: only what ends it from outside tells why.
    if finding is not None and (cancelled or code in ("INSTANCE_FAILURE", "BOOTSTRAP_FAILURE")):
        return finding
    if not cancelled:
        return None
    said = str((step["Status"].get("StateChangeReason") or {}).get("Message") or "")
    if code == "USER_REQUEST":
        return _Finding(Kind.CANCELLED, f"the cluster was ended by a user's request ({message})", _unique([said]))
    return _Finding(Kind.CANCELLED, f"the step was cancelled{f': {said}' if said else ''}", _unique([message]))


def _of_ending(code: str, message: str) -> _Finding | None:
    """Return what a cluster's last reason tells; None when it tells of no failure of its own."""
    said = _unique([f"{code} {message}".strip()])
    if code == "BOOTSTRAP_FAILURE":
        return _Finding(Kind.BOOTSTRAP, message or "a bootstrap action failed", said)
    if code == "INSTANCE_FLEET_TIMEOUT" or NO_CAPACITY.search(message):
        return _Finding(Kind.LOST_CAPACITY, f"EMR could not get the instances: {message}", said)
    if code == "INSTANCE_FAILURE":
        return _Finding(Kind.LOST_CAPACITY, f"the cluster lost instances that it cannot do without: {message}", said)
    if code in ("VALIDATION_ERROR", "INTERNAL_ERROR"):
        found = _search(STRONG, [message])
        kind = found.kind if found is not None and found.kind is Kind.ACCESS_DENIED else Kind.UNKNOWN
        return _Finding(kind, f"EMR ended the cluster: {message}", said)
    return None


def _of_limit(step: Mapping[str, Any], logs: StepLogs) -> _Finding | None:
    """Return that the time limit in the step's command has passed, if it has."""
    limit = _limit_seconds(step)
    if limit is None:
        return None
    code, seconds = _exit_code(step, logs), _seconds(step)
    if code == TIMEOUT_CODE or (code == KILLED_CODE and seconds is not None and seconds >= limit):
        how = "ended" if code == TIMEOUT_CODE else "killed, since it did not end when it was told to,"
        evidence = [f"exit code {code} of timeout(1)", "" if seconds is None else f"the step took {seconds:.0f} s"]
        return _Finding(Kind.TIME_LIMIT, f"the step was {how} after its time limit of {limit:g} s", _unique(evidence))
    return None


def _exit_code(step: Mapping[str, Any], logs: StepLogs) -> int | None:
    if logs.exit_code is not None:
        return logs.exit_code
    said = re.search(r"exit code (-?\d+)", str((step["Status"].get("FailureDetails") or {}).get("Message") or ""))
    if said is None:
        return None
    code = int(said[1])
    return code if code >= 0 else 128 - code


def _limit_seconds(step: Mapping[str, Any]) -> float | None:
    """Return the limit of a command ``timeout [OPTIONS] DURATION …``; None when it has none."""
    words = iter((step.get("Config") or {}).get("Args") or [])
    if str(next(words, "")).rpartition("/")[2] != "timeout":
        return None
    for word in words:
        if word in ("-k", "-s", "--kill-after", "--signal"):
            next(words, None)
        elif not word.startswith("-"):
            duration = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", word)
            return float(duration[1]) * UNIT_SECONDS[duration[2]] if duration else None
    return None


def _seconds(step: Mapping[str, Any]) -> float | None:
    timeline = step["Status"].get("Timeline") or {}
    begin, end = timeline.get("StartDateTime"), timeline.get("EndDateTime")
    return float((end - begin).total_seconds()) if begin and end else None


def _of_logs(step: Mapping[str, Any], logs: StepLogs) -> _Finding:
    details = str((step["Status"].get("FailureDetails") or {}).get("Message") or "")
    if not logs.stdout and not logs.stderr:
        logs = replace(logs, stdout=details)  # EMR's own excerpt of what cannot be read
    error = last_error(logs.stdout) or _fatal(logs.stderr)
    found = _of_error(error) or (_of_the_rest(logs) if not error or OF_THE_PLATFORM.search(error) else None)
    if found is not None:
        return found
    code = _exit_code(step, logs)
    if code == KILLED_CODE and not error.startswith("spark_jobs"):
        cause = "the driver was killed from outside, as the kernel does when the primary node has no memory left"
        return _Finding(Kind.OUT_OF_MEMORY, cause, _unique([f"exit code {code}", error]))
    if error:
        return _Finding(Kind.UNKNOWN, shorten(error), _unique([error]))
    told = shorten(details) or (f"exit code {code}, and no error in its logs" if code is not None else "")
    return _Finding(Kind.UNKNOWN, told or "EMR gives no reason, and there are no logs", _unique([details]))


def _fatal(stderr: str) -> str:
    """Return the error on which the JVM of spark-submit itself ended."""
    lines = [line for line in stderr.splitlines() if line.startswith("Exception in thread")]
    return lines[-1].strip() if lines else ""


def _of_error(error: str) -> _Finding | None:
    """Return what the job's last error tells, if it is sure."""
    by_job = error.startswith("spark_jobs.errors.JobError")
    symptoms = [s for s in STRONG if not by_job or s.kind in (Kind.ACCESS_DENIED, Kind.BAD_INPUT)]
    found = _search(symptoms, [error])
    if found is None or found.kind is not Kind.BAD_INPUT:
        return found
    return _Finding(Kind.BAD_INPUT, shorten(error.removeprefix("spark_jobs.errors.JobError: ")), found.evidence)


def _of_the_rest(logs: StepLogs) -> _Finding | None:
    """Return what the driver's log, and then the containers', tell: first what is sure."""
    driver = _loud(f"{logs.stderr}\n{logs.stdout}")
    containers = [line for log in logs.containers for line in _loud(log.text)]
    for symptoms in (STRONG, WEAK):
        for lines in (driver, containers):
            found = _search(symptoms, lines)
            if found is not None:
                return found
    return None


def _loud(text: str) -> list[str]:
    """Return the lines that may tell of a problem: what is not logged at INFO or below, and no stack frame."""
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
            return _Finding(symptom.kind, f"{symptom.meaning}: {_around(symptom, matching[-1])}", evidence)
    return None


def _around(symptom: Symptom, line: str, width: int = 240) -> str:
    """Return what a line says around a symptom: Spark's errors are pages long."""
    found = symptom.pattern.search(line)
    if found is None or len(line) <= 2 * width:
        return line.strip()
    begin, end = max(0, found.start() - width // 2), min(len(line), found.end() + width)
    return f"{'… ' if begin else ''}{line[begin:end].strip()}{' …' if end < len(line) else ''}"


def _unique(lines: Iterable[str]) -> tuple[str, ...]:
    """Return the last of some lines, each once, in bounded length."""
    told = dict.fromkeys(shorten(line) for line in lines if line.strip())
    return tuple(told)[-MOST_EVIDENCE:]
