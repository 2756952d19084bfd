"""The kept states without the erased photos: new segments, new run folders, new manifests, and one move of the pointer.

Nothing that a reader may be reading is edited. A state keeps its number, so that it can be restored as before.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from include.erasure.errors import NoStateError, NothingLeftError
from include.erasure.names import Names
from include.erasure.search import Findings, Wanted
from include.lake.commit import move_pointer
from include.lake.garbage import kept_manifests
from include.lake.layout import Lake, repeated_slug
from include.lake.objects import LakePath, write_json
from include.lake.state import read_pointer
from include.records import Current, Manifest, Previous, StateCounts
from include.reports.publishing import write_report
from include.reports.report import build_report
from spark_jobs.args import SEGMENT_FILE
from spark_jobs.erasure.states import Outcome, rewrite_run, rewrite_segment
from spark_jobs.errors import JobError
from spark_jobs.records import Segment

log = logging.getLogger(__name__)

SLUG_LENGTH = len("20261122T120000Z-0123abcd")


@dataclass(frozen=True)
class Attempt:
    """One attempt of an erasure to rewrite the kept states.

    Attributes
    ----------
    erasure : str
        Id of the erasure.
    token : str
        Eight hexadecimal digits, unique to the attempt.
    published_at : str
        ISO 8601 time in UTC.
    """

    erasure: str
    token: str
    published_at: str

    @property
    def prefix(self) -> str:
        """Beginning of the ids of its segments."""
        return f"{self.erasure}-{self.token}"

    def slug(self, run: str) -> str:
        """Return the name of the folder that replaces a run's folder."""
        return repeated_slug(run[:SLUG_LENGTH], hashlib.sha256(f"{self.token} {run}".encode()).hexdigest())


@dataclass
class Rewritten:
    """What replaces the segments and runs of the kept states.

    Attributes
    ----------
    segments : dict of str to Segment or None
        New segments by the id of the old one; None if no row stays.
    runs : dict of str to str
        Names of new run folders by the old name.
    outcomes : dict of str to Outcome or None
        The summaries of the new runs by the old name; None if no image has features.
    """

    segments: dict[str, Segment | None] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, Outcome | None] = field(default_factory=dict)


def read_kept(lake: Lake, kept_states: int, aws_conn_id: str | None) -> list[tuple[str, Manifest]]:
    """Return the manifests of the kept states with their paths, the oldest first.

    Raises
    ------
    NoStateError
        If no state is published, or one of the lake's first version.
    """
    kept = list(kept_manifests(lake, kept_states, aws_conn_id))
    if not kept:
        raise NoStateError(
            f"{lake.root} has no published state, or one of the lake's first version: run the DAG once, then repeat "
            "this"
        )
    return kept[::-1]


def count_states(kept: Sequence[tuple[str, Manifest]]) -> dict[str, StateCounts]:
    """Return the size of each kept state by its number."""
    return {
        str(manifest["state"]): {
            "images": manifest["featurize"]["features"],
            "rejects": manifest["featurize"]["rejects"],
        }
        for _, manifest in kept
    }


def check_something_stays(lake: Lake, kept: Sequence[tuple[str, Manifest]], found: Findings) -> None:
    """Raise if the published state would have no image with features; nothing has been changed then.

    Raises
    ------
    NothingLeftError
        With what to do instead.
    """
    _, published = kept[-1]
    lost = 0
    for segment in published["segments"]:
        path = lake.relative(lake.features(segment["id"]))
        lost += len(found.rows.get(path, []))
    if lost >= published["featurize"]["features"]:
        raise NothingLeftError(
            f"no photo with features would be left of the {published['featurize']['features']} in the published state. "
            f"Delete the lake {lake.root} itself instead: in a bucket with all versions, as docs/runbook.md describes"
        )
    log.info("%d of %d images of the published state go", lost, published["featurize"]["features"])


def rewrite_states(
    lake: Lake, found: Findings, wanted: Wanted, kept_states: int, attempt: Attempt, aws_conn_id: str | None
) -> Current:
    """Publish the kept states without the photos. The pointer always moves, so that a run in progress cannot publish.

    Parameters
    ----------
    lake : Lake
        The lake.
    found : Findings
        What was found of the photos.
    wanted : Wanted
        What was searched for.
    kept_states : int
        Number of kept states.
    attempt : Attempt
        The names of what is written.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    ConflictError
        If a run has published meanwhile; what people read has not been changed.
    """
    pointer = read_pointer(lake, aws_conn_id)
    kept = read_kept(lake, kept_states, aws_conn_id)
    names, done = wanted.names, Rewritten()
    before: str | None = None
    is_chain_changed = False
    written: list[tuple[str, Manifest]] = []
    for path, old in kept:
        is_published, is_affected = path == kept[-1][0], _is_affected(lake, old, found, names)
        if not (is_affected or is_chain_changed or is_published):
            before = path
            continue
        is_chain_changed = True
        manifest = _rewrite(lake, old, found, wanted, attempt, done, aws_conn_id) if is_affected else old
        if manifest is None:
            if is_published:
                raise NothingLeftError(
                    f"the published state of {lake.root} cannot be rewritten: see the warning above. Run the DAG with "
                    "full_run, then repeat this"
                )
            log.warning("The state %d cannot be kept: it has erased photos only, or is incomplete", old["state"])
            continue
        manifest = {
            **manifest,
            "previous_manifest": before,
            "previous": _map_previous(lake, manifest["previous"], done.runs),
            "erasures": [*manifest.get("erasures", []), *([attempt.erasure] if is_affected else [])],
        }
        before = f"manifests/{manifest['state']:06d}-{manifest['run']}-{attempt.token}.json"
        written.append((before, manifest))
    return move_pointer(lake, written, pointer, attempt.published_at, aws_conn_id)


def _is_affected(lake: Lake, manifest: Manifest, found: Findings, names: Names) -> bool:
    """Return whether a state has something of the photos: rows, a place in its listing, or a name in its manifest.

    A kept basis may have been fitted on a photo that has gone since.
    """
    basis = manifest["pca"].get("basis")
    if basis is not None and basis["kept"]:
        return True
    folders = [f"segments/{segment['id']}/" for segment in manifest["segments"]]
    folders += [f"runs/{manifest['run']}/"]
    return any(path.startswith(tuple(folders)) for path in found.derived_files) or names.scrub(manifest) != manifest


def _rewrite(
    lake: Lake,
    old: Manifest,
    found: Findings,
    wanted: Wanted,
    attempt: Attempt,
    done: Rewritten,
    aws_conn_id: str | None,
) -> Manifest | None:
    """Return the manifest of a state without the photos, or None if no image with features stays."""
    live = [segment for each in old["segments"] if (segment := _renew(lake, each, found, attempt, done)) is not None]
    run = old["run"]
    if run not in done.outcomes:
        done.outcomes[run] = _rewrite_run(lake, old, live, wanted, attempt, done)
    outcome = done.outcomes[run]
    if outcome is None:
        return None
    scrubbed: Manifest = wanted.names.scrub(old)
    manifest: Manifest = {
        **scrubbed,
        "run": done.runs[run],
        "segments": live,
        "results": sorted({name for segment in live for name in segment["results"]}),
        "featurize": wanted.names.scrub(outcome.featurize),
        "pca": outcome.pca,
    }
    locations = lake.run(manifest["run"])
    report = build_report({**manifest, "previous": _map_previous(lake, manifest["previous"], done.runs)})
    write_report(lake, report, aws_conn_id)
    if manifest["cost"] is not None:
        write_json(LakePath(locations.cost, aws_conn_id), manifest["cost"])
    return manifest


def _renew(lake: Lake, segment: Segment, found: Findings, attempt: Attempt, done: Rewritten) -> Segment | None:
    """Return a segment without the rows of the photos: the same one if it has none of them; None if no row stays."""
    id_ = segment["id"]
    folder = f"segments/{id_}/"
    if f"{folder}{SEGMENT_FILE}" not in found.texts and not any(path.startswith(folder) for path in found.rows):
        return segment
    if id_ not in done.segments:
        paths = [path for file, of_file in found.rows.items() if file.startswith(folder) for path in of_file]
        done.segments[id_] = rewrite_segment(lake.segments, segment, attempt.prefix, len(done.segments), paths)
    return done.segments[id_]


def _rewrite_run(
    lake: Lake, old: Manifest, live: list[Segment], wanted: Wanted, attempt: Attempt, done: Rewritten
) -> Outcome | None:
    run = old["run"]
    done.runs[run] = attempt.slug(run)
    previous = _map_previous(lake, old["previous"], done.runs)["pca_model"]
    try:
        return rewrite_run(
            lake.run(run).root,
            lake.run(done.runs[run]).root,
            {"folder": lake.segments, "segments": live},
            wanted.erased,
            old["featurize"],
            old["pca"]["arguments"],
            previous,
        )
    except (JobError, FileNotFoundError):
        log.warning("The run %s cannot be rewritten: its files are not all there", run, exc_info=True)
        return None


def _map_previous(lake: Lake, previous: Previous, runs: Mapping[str, str]) -> Previous:
    """Return the run with which a state was compared under its new name."""
    run = previous["run"]
    if run is None or run not in runs:
        return previous
    model = lake.run(runs[run]).pca_model if previous["pca_model"] else None
    return {**previous, "run": runs[run], "pca_model": model}
