"""The patterns of failures in logs, and the advice for each kind. Pure data.

The messages of YARN and of Spark on YARN are from their sources: ``org.apache.spark.deploy.yarn.YarnAllocator`` (Spark
3.5 and 4.1), ``SchedulerUtils`` and ``ContainersMonitorImpl`` of Hadoop YARN 3.4. The messages of Spark and Hadoop
about local folders are from ``DiskBlockManager``, ``LocalDirAllocator`` and ``DirectoryCollection``. The messages of
the JVM, Python, pyarrow and our jobs are from captured logs (``tests/data/step_logs``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The classes of failures."""

    OUT_OF_MEMORY = "out of memory"
    DISK_FULL = "disk full"
    OPEN_FILES = "too many open files"
    UNKNOWN_HOST = "unknown host"
    MISSING_MODULE = "missing module"
    ACCESS_DENIED = "access denied"
    BAD_INPUT = "bad input"
    LOST_CAPACITY = "lost capacity"
    TIME_LIMIT = "time limit"
    CANCELLED = "cancelled"
    BOOTSTRAP = "bootstrap action failed"
    UNKNOWN = "unknown"


ADVICE = {
    Kind.OUT_OF_MEMORY: "Use instance types with more memory for the process that was killed (core_instance_types for "
    "executors and their Python workers, master_instance_type for the driver), or smaller tasks (images_per_task). "
    "The Python workers use spark.executor.memoryOverhead.",
    Kind.DISK_FULL: "A disk is full. On a cluster it is a node's: raise ebs_gib, or use more nodes, since each keeps a "
    "share of the data. On this machine: free space on the disk that the error names (that of the lake, of .local, or "
    "of temporary files).",
    Kind.OPEN_FILES: "A process has reached its limit of open files. On this machine: raise the limit in the shell "
    "that starts the run (ulimit -n; if the hard limit is too low, /etc/security/limits.conf). On a cluster: use "
    "instance types with fewer vCPUs, whose executors open fewer files at a time.",
    Kind.UNKNOWN_HOST: "A host name has no address. If it is the node's own name: enable DNS resolution and DNS host "
    "names in the VPC, or add the name to /etc/hosts on this machine. If it is a service's: check the region, the "
    "endpoint and the VPC's DNS.",
    Kind.MISSING_MODULE: "The cluster lacks code that the job imports. Check whether the code bundle is complete "
    "(publish_code) and whether the bootstrap action has installed requirements-cluster.txt: the bundle, the wheels "
    "and the release label must belong together.",
    Kind.ACCESS_DENIED: "The instance profile (setting job_flow_role) lacks the permission that the error names. Check "
    "its policy, those of the bucket and of the KMS key, and whether the VPC's S3 endpoint allows the bucket.",
    Kind.BAD_INPUT: "The job reports what is wrong and what to do. For too many rejects: check the files that it "
    "names, fix or remove them, or raise max_reject_ratio.",
    Kind.LOST_CAPACITY: "EC2 had no instances of these types, or reclaimed some. Retry; if it happens again, allow "
    "more or other types (core_instance_types), more zones (setting subnet_ids), fewer spot instances "
    "(a higher max_core_nodes), or request a higher EC2 quota.",
    Kind.TIME_LIMIT: "The step ran longer than step_time_limit_minutes. If the log shows progress, raise the limit or "
    "the number of instances; if it hung, its last lines show where.",
    Kind.CANCELLED: "A person, or the end of the run, cancelled it; there is no defect. Start the run again if "
    "necessary.",
    Kind.BOOTSTRAP: "The nodes could not be prepared: no step ran. The log of the action, below, shows why: usually "
    "they cannot access a wheel or a bucket.",
    Kind.UNKNOWN: "Read the last lines of the logs below; the complete logs are in the folder that is named there.",
}


@dataclass(frozen=True)
class Symptom:
    """A pattern that identifies a kind of failure, and its meaning."""

    kind: Kind
    pattern: re.Pattern[str]
    meaning: str


def _symptom(kind: Kind, meaning: str, *patterns: str) -> Symptom:
    return Symptom(kind, re.compile("|".join(patterns)), meaning)


EXHAUSTED = (
    _symptom(
        Kind.DISK_FULL,
        "a disk is full",
        r"(?i:no space left on device)",
        r"\bENOSPC\b",
        r"(?i:disk quota exceeded)",
        r"There is not enough space on the disk",
        r"local-dirs usable space is below configured utilization percentage",
    ),
    _symptom(
        Kind.OPEN_FILES,
        "a process has too many open files",
        r"(?i:too many open files)",
        r"\bEMFILE\b",
        r"\bENFILE\b",
    ),
)
"""A resource of a machine was exhausted. Consequences are modules that cannot be imported, and lost executors."""

STRONG = (
    *EXHAUSTED,
    _symptom(
        Kind.LOST_CAPACITY,
        "an instance was lost, with its executors",
        r"Container released on a \*lost\* node",
        r"Exit status: -100\b",
        r"[Ss]pot [Ii]nstance (?:interruption|termination)",
        r"SpotInstanceTermination",
        r"Node .{0,80}was lost",
    ),
    _symptom(
        Kind.OUT_OF_MEMORY,
        "YARN killed a container that used more memory than it had requested",
        r"Container killed by YARN for exceeding (?:physical |virtual )?memory limits",
        r"is running .{0,80}beyond the '?(?:PHYSICAL|VIRTUAL|physical|virtual)'? memory limit",
    ),
    _symptom(
        Kind.OUT_OF_MEMORY,
        "memory ran out",
        r"java\.lang\.OutOfMemoryError",
        r"\bMemoryError\b",
        r"\bArrowMemoryError\b",
        r"insufficient memory for the Java Runtime Environment",
        r"Cannot allocate memory",
        r"Exit status: 137\b",
    ),
    _symptom(
        Kind.UNKNOWN_HOST,
        "a host name does not resolve",
        r"java\.net\.UnknownHostException",
        r"Name or service not known",
        r"Temporary failure in name resolution",
        r"failed to lookup address information",
        r"[Cc]ould not resolve host",
        r"Could not connect to the endpoint URL.{0,300}(?i:gaierror|NameResolution)",
    ),
    _symptom(
        Kind.MISSING_MODULE,
        "a module that the job imports is not installed",
        r"\bModuleNotFoundError\b",
        r"\bImportError\b",
        r"java\.lang\.(?:ClassNotFoundException|NoClassDefFoundError)",
        r"cannot open shared object file",
        r"Cannot run program \"\S*python\S*\"",
    ),
    _symptom(
        Kind.ACCESS_DENIED,
        "a request was denied",
        r"\bAccess ?Denied\b",
        r"\bAccessDenied(?:Exception)?\b",
        r"\bACCESS_DENIED\b",
        r"Status Code: 403\b",
        r"is not authorized to perform",
        r"\b(?:SignatureDoesNotMatch|InvalidAccessKeyId|ExpiredToken)\b",
        r"\bPermissionError\b",
    ),
    _symptom(
        Kind.BAD_INPUT,
        "the job rejected its input",
        r"\bspark_jobs\.errors\.JobError\b",
        r"^\S+: error: ",
        r"\bFileNotFoundError\b",
        r"Path does not exist",
        r"\bNoSuch(?:Key|Bucket)\b",
        r"\bNO_SUCH_(?:KEY|BUCKET)\b",
    ),
)
"""Conclusive symptoms, by priority."""

WEAK = (
    _symptom(
        Kind.OPEN_FILES,
        "Java could not open a file of its own, as with a very low limit of open files",
        r"Error loading java\.security file",
    ),
    _symptom(
        Kind.DISK_FULL,
        "Spark or Hadoop could not write to any local folder",
        r"Failed to create (?:any )?local dir",
        r"Could not find any valid local directory for",
        r"\d+/\d+ local-dirs (?:are bad|have errors|usable space)",
    ),
    _symptom(
        Kind.OUT_OF_MEMORY,
        "a process was killed from outside, as the kernel does if a node has no free memory",
        r"Python worker exited unexpectedly",
        r"[Cc]ommand exited with code 137\b",
        r"exit(?:ed with)? code 137\b",
    ),
    _symptom(
        Kind.LOST_CAPACITY,
        "an executor was lost",
        r"ExecutorLostFailure",
        r"Lost executor \S+ on",
        r"Executor heartbeat timed out",
        r"Container from a bad node",
        r"Exit status: 143\b",
    ),
)
"""Likely causes, if there is no conclusive symptom."""

NO_CAPACITY = re.compile(
    r"out of capacity|[Ii]nsufficient(?:Instance| instance)? ?[Cc]apacity|ERROR_noinstancecapacity|"
    r"no available (?:\S+ )?instances|service quota|[Vv]cpu ?[Ll]imit|instance limit|InstanceLimitExceeded|"
    r"could not be fulfilled|SpotInstanceTermination|timed? ?out .{0,40}provision|provision.{0,60}timed? ?out"
)
"""Messages of EMR and EC2 about unavailable instances (EMR Management Guide: "EC2 is out of capacity", "EC2 quota
exceeded", "Responding to insufficient instance capacity events"; EC2's error codes)."""

CONTAINER_REASON = re.compile(
    r"Container (?:marked as failed|from a bad node|killed by YARN).*|ExecutorLostFailure.*|Container \[pid=.*"
)
"""Messages of Spark and YARN about a failed container."""

CONTAINER_ID = re.compile(r"\bcontainer_(?:e\d+_)?(\d+_\d+)_\d+_\d+\b")
"""The id of a container; its group names the application that it belongs to."""

PLATFORM_ERROR = re.compile(
    r"SparkException|[Pp]y4[Jj]|Job aborted|ExecutorLost|SparkContext|java\.|org\.apache\.|Exception in thread|"
    r"Connection(?:Refused|Reset|Aborted)|BrokenPipe|EOFError"
)
"""An error of Spark or the JVM, which reports the consequence; the cause may be in another line."""
