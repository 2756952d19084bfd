"""The erasure of photos from beginning to end. It may be killed at any moment and repeated.

The order is: plan, denylist, photos, new states, pointer, ``results/``, deletions, receipt. The plan has the names that
a repetition needs, since what is deleted cannot be searched any more. The photos go before the pointer moves, and the
pointer always moves: a run that has seen the photos can then not publish, and a later run does not see them.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from include.erasure.denylist import add_contents, ensure_key, find_key
from include.erasure.errors import IncompleteError, NothingFoundError
from include.erasure.leftovers import delete_photos, judge, remove
from include.erasure.receipt import (
    build_receipt,
    delete_plan,
    read_plans,
    read_receipts,
    receipt_path,
    write_plan,
)
from include.erasure.request import Request, RequestError
from include.erasure.search import NOTHING_COUNTED, Findings, Wanted, read_contents, search
from include.erasure.states import Attempt, check_something_stays, count_states, read_kept, rewrite_states
from include.lake.commit import ConflictError
from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json, write_json
from include.lake.publication import show_published
from include.records import ErasurePlan, Manifest, PlaceCounts, Receipt
from spark_jobs.keyed_hash import keyed_hash
from spark_jobs.lake.object_store import opened_by

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often the lake is searched and rewritten, while runs publish at the same time."""

DATA_FOLDER = "data"
"""The folder of photos of a lake none of whose states names another one."""


def forget(lake: Lake, request: Request, kept_states: int, aws_conn_id: str | None) -> Receipt:
    """Erase photos and everything derived from them; return the receipt. Erasures that were interrupted are completed.

    Parameters
    ----------
    lake : Lake
        The lake.
    request : Request
        The photos.
    kept_states : int
        Number of states that the lake keeps.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    NothingFoundError
        If there is nothing of these photos, and no earlier receipt for them.
    NothingLeftError
        If the published state would have no image with features. Nothing was changed.
    NoStateError
        If no state is published.
    ConflictError
        If runs publish again and again meanwhile; a repetition continues.
    IncompleteError
        If something is found again and again.
    """
    with opened_by(LakePath(lake.root, aws_conn_id).buckets):
        for plan in read_plans(lake, aws_conn_id):
            log.info("Completing the erasure %s, which was interrupted", plan["erasure"])
            receipt = _Erasure(lake, plan, kept_states, aws_conn_id).run()
            if _request_of(plan) == request:
                return receipt
        now = datetime.now(UTC)
        plan = _new_plan(request, f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}", now)
        return _Erasure(lake, plan, kept_states, aws_conn_id).run()


def _new_plan(request: Request, erasure: str, now: datetime) -> ErasurePlan:
    return {
        "erasure": erasure,
        "started_at": now.isoformat(timespec="seconds"),
        "paths": list(request.paths),
        "labels": list(request.labels),
        "keeps_photos": request.keeps_photos,
        "photos": [],
        "contents": [],
        "vectors": [],
        "thumbnails": [],
        "attempts": [],
        "before": {},
        "states": {},
    }


def _request_of(plan: ErasurePlan) -> Request:
    return Request(tuple(plan["paths"]), tuple(plan["labels"]), plan["keeps_photos"])


class _Erasure:
    """One erasure, from its plan to its receipt."""

    def __init__(self, lake: Lake, plan: ErasurePlan, kept_states: int, aws_conn_id: str | None) -> None:
        self._lake, self._plan, self._kept_states, self._conn = lake, plan, kept_states, aws_conn_id
        self._request = _request_of(plan)

    def run(self) -> Receipt:
        lake, conn = self._lake, self._conn
        target = LakePath(receipt_path(lake, self._plan["erasure"]), conn)
        if target.exists():  # only the deletion of the plan was interrupted
            delete_plan(lake, self._plan["erasure"], conn)
            receipt: Receipt = read_json(target, "make forget writes it")
            return receipt
        key = find_key(lake, conn)
        found, wanted = self._search(key or b"")
        if earlier := self._earlier_receipt(found, key):
            return earlier
        check_something_stays(lake, self._kept(), found)
        if key is None:
            key = ensure_key(lake, conn)
            found, wanted = self._search(key)
        for _ in range(ATTEMPTS):
            try:
                self._attempt(found, wanted, key)
            except ConflictError as error:
                log.info("A run has published meanwhile: the lake is searched again")
                conflict: ConflictError | None = error
            else:
                conflict = None
            found, wanted = self._search(key)
            if conflict is None and found.is_clean(keeps_photos=self._request.keeps_photos):
                return self._finish(found, key, target)
        raise conflict or IncompleteError(
            f"something of the photos is found again after {ATTEMPTS} deletions: is a run writing? Repeat the command "
            "when it has ended; the erasure is completed then"
        )

    def _attempt(self, found: Findings, wanted: Wanted, key: bytes) -> None:
        """Delete and rewrite what was found."""
        lake, conn = self._lake, self._conn
        attempt = self._note(found, key)
        add_contents(lake, self._plan["contents"], conn)
        if not self._request.keeps_photos:
            delete_photos(lake, found, conn)
        rewrite_states(lake, found, wanted, self._kept_states, attempt, conn)
        show_published(lake, conn)
        remove(lake, judge(found, self._kept(), self._attempts()), wanted, conn)

    def _kept(self) -> list[tuple[str, Manifest]]:
        return read_kept(self._lake, self._kept_states, self._conn)

    def _folders(self, kept: Sequence[tuple[str, Manifest]]) -> list[str]:
        """Return the folders of photos, relative to the lake's root.

        Raises
        ------
        RequestError
            If a requested path is in none of them.
        """
        named = {Lake(manifest["lake"]).relative(manifest["images_folder"]) for _, manifest in kept}
        folders = _outermost({*named, DATA_FOLDER})
        for path in self._plan["paths"]:
            if not path.startswith(tuple(f"{folder}/" for folder in folders)):
                where = f"{', '.join(folders)} of {self._lake.root}"
                raise RequestError(f"{path!r} is no photo: expected a path in {where}")
        return folders

    def _search(self, key: bytes) -> tuple[Findings, Wanted]:
        """Search for the photos; if this shows that the labels mean more photos, search again for these."""
        kept = self._kept()
        folders = self._folders(kept)
        roots = tuple(dict.fromkeys([self._lake.root, *(manifest["lake"] for _, manifest in kept)]))
        while True:
            wanted = Wanted(self._request, frozenset([*self._plan["paths"], *self._plan["photos"]]), roots)
            found = search(self._lake, wanted, folders, key, self._conn)
            names = found.names(wanted)
            self._plan["photos"] = sorted(names)
            if names == wanted.photos:
                return found, wanted

    def _earlier_receipt(self, found: Findings, key: bytes | None) -> Receipt | None:
        """Return the receipt of an earlier erasure of the same photos, if nothing of them is there.

        Raises
        ------
        NothingFoundError
            If there is no such receipt.
        """
        if self._plan["attempts"] or found.derived_files or found.photos:
            return None
        receipts = read_receipts(self._lake, self._conn)
        request = self._request
        paths, labels = (
            {keyed_hash(key or b"", name.encode()) for name in names} for names in (request.paths, request.labels)
        )
        for receipt in reversed(receipts):
            if paths <= {*receipt["photos"]} and labels <= {*receipt["requested"]["labels"]}:
                return receipt
        raise NothingFoundError(
            f"nothing in {self._lake.root} has the named paths or labels, and no receipt says that they were erased: "
            "check the spelling, expected a path such as data/Kiwi/1.jpg"
        )

    def _note(self, found: Findings, key: bytes) -> Attempt:
        """Write into the plan what was found, before anything of it is deleted; return the next attempt."""
        plan, conn = self._plan, self._conn
        files = [file for each in found.photos.values() for file in each]
        plan["contents"] = sorted({*plan["contents"], *read_contents(self._lake, files, key, conn)})
        plan["vectors"] = sorted({*plan["vectors"], *found.vectors})
        plan["thumbnails"] = sorted({*plan["thumbnails"], *found.thumbnails})
        plan["attempts"].append(secrets.token_hex(4))
        plan["before"] = _largest(plan["before"], found.counts)
        plan["states"] = count_states(self._kept()) | plan["states"]
        write_plan(self._lake, plan, conn)
        return self._attempts()[-1]

    def _attempts(self) -> list[Attempt]:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return [Attempt(self._plan["erasure"], token, now) for token in self._plan["attempts"]]

    def _finish(self, found: Findings, key: bytes, target: LakePath) -> Receipt:
        lake, conn = self._lake, self._conn
        kept = self._kept()
        finished_at = datetime.now(UTC).isoformat(timespec="seconds")
        receipt = build_receipt(
            lake, self._plan, key, found.counts, count_states(kept), kept[-1][1]["state"], finished_at
        )
        write_json(target, receipt)
        delete_plan(lake, self._plan["erasure"], conn)
        return receipt


def _outermost(folders: Iterable[str]) -> list[str]:
    """Return the folders that are in none of the others, sorted."""
    result: list[str] = []
    for folder in sorted(folders):
        if not any(folder == other or folder.startswith(f"{other}/") for other in result):
            result.append(folder)
    return result


def _largest(one: dict[str, PlaceCounts], other: dict[str, PlaceCounts]) -> dict[str, PlaceCounts]:
    """Return the larger counts of two searches, by place: an attempt that was killed has deleted something already."""
    return {
        place: {
            "files": max(a["files"], b["files"]),
            "old_versions": max(a["old_versions"], b["old_versions"]),
            "files_found": max(a["files_found"], b["files_found"]),
            "rows_found": max(a["rows_found"], b["rows_found"]),
        }
        for place in {*one, *other}
        for a, b in [(one.get(place, NOTHING_COUNTED), other.get(place, NOTHING_COUNTED))]
    }
