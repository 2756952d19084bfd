"""The files of an erasure: its plan, which names photos and is deleted at the end, and its receipt, which does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

from include.erasure.search import NOTHING_COUNTED
from include.erasure.stored import delete_stored, list_stored
from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json, write_json
from include.records import ErasurePlan, PlaceCounts, Receipt, Remainder, StateCounts
from spark_jobs.keyed_hash import keyed_hash
from spark_jobs.lake.storage import is_local

PLAN_ENDING = ".plan.json"

RECEIPT_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\.json")

HASH = "HMAC-SHA-256 with the key in erasures/denylist.json"

IN_EVERY_LAKE: tuple[Remainder, ...] = (
    {
        "what": "figures over all photos: counts, explained variance and quality in the reports of earlier runs",
        "where": "runs/*/, reports/",
        "rule": "none: they name no photo, and no vector follows from them",
    },
    {
        "what": "keyed hashes of the photos' paths, bytes, vectors and thumbnails",
        "where": "erasures/",
        "rule": "none: delete the receipt and the denylist if they are not needed any more",
    },
    {
        "what": "what a run that was in progress writes after the end of this erasure; it cannot publish",
        "where": "runs/, segments/",
        "rule": "garbage collection of a later run, two days after it was written",
    },
    {
        "what": "log lines and task results of Airflow that name a photo",
        "where": "Airflow's logs and database",
        "rule": "the retention of the Airflow deployment (airflow db clean)",
    },
)

ON_S3: tuple[Remainder, ...] = (
    {
        "what": "log lines of clusters that name a photo",
        "where": "logs/",
        "rule": "the bucket's lifecycle rule expire-logs, after KeepLogsDays; their old versions: forget-old-versions",
    },
    {
        "what": "parts of uploads that were interrupted; nobody can read them as a file",
        "where": "the whole bucket",
        "rule": "open_run of a later run, or the lifecycle rule abort-uploads, two days after they began",
    },
    {
        "what": "copies outside this bucket: backups, downloads, exports",
        "where": "elsewhere",
        "rule": "none in this system",
    },
)

IN_A_FOLDER: tuple[Remainder, ...] = (
    {"what": "log lines of clusters that name a photo", "where": "logs/", "rule": "none: delete the folder"},
    {
        "what": "the originals that make run has loaded from another folder, backups and snapshots",
        "where": "elsewhere",
        "rule": "none in this system",
    },
)


def read_plans(lake: Lake, aws_conn_id: str | None) -> list[ErasurePlan]:
    """Return the erasures that have begun and not ended."""
    folder = LakePath(lake.erasures, aws_conn_id)
    names = [name for name in folder.names() if name.endswith(PLAN_ENDING) and not name.startswith(".")]
    return [cast(ErasurePlan, read_json(folder / name, "make forget writes it")) for name in names]


def write_plan(lake: Lake, plan: ErasurePlan, aws_conn_id: str | None) -> None:
    """Write a plan."""
    write_json(LakePath(_plan(lake, plan["erasure"]), aws_conn_id), plan)


def delete_plan(lake: Lake, erasure: str, aws_conn_id: str | None) -> None:
    """Delete a plan with all its versions, and what killed writers have left of it."""
    name = lake.relative(_plan(lake, erasure))
    files = list(list_stored(lake, name, aws_conn_id))
    if is_local(lake.root):
        files += [file for file in list_stored(lake, "erasures/", aws_conn_id) if file.is_temporary]
    delete_stored(lake, files, aws_conn_id)


def _plan(lake: Lake, erasure: str) -> str:
    return f"{lake.erasures}/{erasure}{PLAN_ENDING}"


def receipt_path(lake: Lake, erasure: str) -> str:
    """Return the URI of a receipt."""
    return f"{lake.erasures}/{erasure}.json"


def read_receipts(lake: Lake, aws_conn_id: str | None) -> list[Receipt]:
    """Return all receipts, the oldest first."""
    folder = LakePath(lake.erasures, aws_conn_id)
    names = [name for name in folder.names() if RECEIPT_NAME.fullmatch(name)]
    return [cast(Receipt, read_json(folder / name, "make forget writes it")) for name in names]


def build_receipt(
    lake: Lake,
    plan: ErasurePlan,
    key: bytes,
    after: Mapping[str, PlaceCounts],
    states: Mapping[str, StateCounts],
    published_state: int,
    finished_at: str,
) -> Receipt:
    """Return the receipt of an erasure.

    Parameters
    ----------
    lake : Lake
        The lake.
    plan : ErasurePlan
        The plan with everything that was found.
    key : bytes
        Key of the hashes.
    after : dict of str to PlaceCounts
        The counts of a search after everything was deleted.
    states : dict of str to StateCounts
        The kept states after.
    published_state : int
        Number of the published state.
    finished_at : str
        ISO 8601 time in UTC.
    """

    def hashed(texts: Iterable[str]) -> list[str]:
        return sorted(keyed_hash(key, text.encode()) for text in texts)

    places = sorted({*plan["before"], *after})
    return {
        "erasure": plan["erasure"],
        "requested_at": plan["started_at"],
        "finished_at": finished_at,
        "hash": HASH,
        "requested": {"paths": hashed(plan["paths"]), "labels": hashed(plan["labels"])},
        "keeps_photos": plan["keeps_photos"],
        "photos": hashed(plan["photos"]),
        "contents": sorted(plan["contents"]),
        "vectors": sorted(plan["vectors"]),
        "thumbnails": sorted(plan["thumbnails"]),
        "searched": {
            place: {
                "before": plan["before"].get(place, NOTHING_COUNTED),
                "after": after.get(place, NOTHING_COUNTED),
            }
            for place in places
        },
        "states": {
            state: {"before": before, "after": states.get(state)} for state, before in sorted(plan["states"].items())
        },
        "published_state": published_state,
        "remains": [*IN_EVERY_LAKE, *(IN_A_FOLDER if is_local(lake.root) else ON_S3)],
    }


def describe_receipt(lake: Lake, receipt: Receipt) -> list[str]:
    """Return lines that say what an erasure has done, for a person."""
    uri = receipt_path(lake, receipt["erasure"]).removeprefix("file://")
    counts = [place["before"] for place in receipt["searched"].values()]
    rows, files, versions = (
        sum(each[name] for each in counts) for name in ("rows_found", "files_found", "old_versions")
    )
    photos = len(receipt["photos"])
    kept = " (the photos stay in the lake)" if receipt["keeps_photos"] else ""
    gone = f"{rows:,} rows in {files:,} files, and {versions:,} old versions of files, are gone"
    return [
        f"erased {photos} photo{'s' if photos != 1 else ''}{kept}: {gone}",
        f"published: state {receipt['published_state']}; kept states: {', '.join(receipt['states'])}",
        f"receipt: {uri}",
        f"prove it: make prove-erasure RECEIPT={uri}",
    ]
