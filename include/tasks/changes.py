"""What has changed since the published state: ``find_changes``."""

from __future__ import annotations

import logging

from include.cluster.steps import PROGRESS_SECONDS
from include.lake.layout import Lake, repeated_slug
from include.lake.manifest import select_counts
from include.lake.objects import LakePath, read_json
from include.lake.publication import show_published
from include.lake.state import Pointer, current_of, is_published, read_manifest, read_pointer
from include.records import Current, FoundChanges, Manifest, Params, Run
from include.settings.deployment import read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.failures import without_retry
from spark_jobs import fingerprint
from spark_jobs.args import KEEP_BASIS, REFIT_BASIS, FeaturizeArgs
from spark_jobs.images import changes
from spark_jobs.records import Changes, FeaturizeSummary

log = logging.getLogger(__name__)

PCA_PARAMS = ("variance_target", "n_components", "scores", "sample_images")
"""The run parameters on which components and scores depend."""


@without_retry
def find_changes(run: Run) -> FoundChanges:
    """Compare the images with those of the published state, and decide what the run has to do.

    The lists of images are written into the run's folder: memory does not grow with the number of images. If an earlier
    run was interrupted while it updated ``results/``, this is completed first.

    Raises
    ------
    AirflowFailException
        If there is no image, or a folder of images cannot be read.
    """
    settings = read_airflow_settings()
    conn, lake, params = settings.aws_conn_id, Lake(run["lake"]), RunParams.from_record(run["params"])
    show_published(lake, conn)
    name = repeated_slug(run["slug"], run["round"]) if is_published(lake, run["slug"], conn) else run["slug"]
    pointer = read_pointer(lake, conn)
    manifest = _published_manifest(lake, pointer, conn)
    features_of = fingerprint.planned(run["model"]["digest"], featurize_args(run, name, params))
    folder = changes.Folder(run["images"], params.image_pattern, params.include_hidden)
    found = changes.find(
        folder,
        lake.run(name).root,
        features_of,
        _published(lake, pointer, manifest, conn),
        full_run=params.full_run,
        buckets=LakePath(lake.root, conn).buckets,
    )
    record = _decide(name, found, pointer, manifest, run["params"])
    _log(found, record)
    return record


def featurize_args(run: Run, name: str, params: RunParams) -> FeaturizeArgs:
    """Return the arguments of the featurize job, which writes into the run's folder with this name."""
    lake = Lake(run["lake"])
    locations = lake.run(name)
    return FeaturizeArgs(
        images=run["images"],
        run=locations.root,
        model=run["model"]["uri"],
        changes=locations.changes,
        segments=lake.segments,
        denylist=lake.denylist,
        pattern=params.image_pattern,
        include_hidden=params.include_hidden,
        max_reject_ratio=params.max_reject_ratio,
        exif_orientation=params.exif_orientation,
        images_per_task=params.images_per_task,
        progress_seconds=PROGRESS_SECONDS,
    )


def _published_manifest(lake: Lake, pointer: Pointer | None, aws_conn_id: str | None) -> Manifest | None:
    current = current_of(pointer)
    return read_manifest(lake, current["manifest"], aws_conn_id) if current else None


def _published(
    lake: Lake, pointer: Pointer | None, manifest: Manifest | None, aws_conn_id: str | None
) -> changes.Published | None:
    """Return the published state, as far as changes depend on it."""
    if manifest is not None:
        locations = lake.run(manifest["run"])
        return changes.Published(locations.listing, manifest["fingerprint"], manifest["segments"], run=locations.root)
    if pointer is None:
        return None
    if pointer.record is None or not isinstance(pointer.record.get("run"), str):
        log.warning(
            "%s is damaged: its readers fail until this run publishes, and all images are computed", lake.current
        )
        return None
    return _first_version(lake, pointer.record["run"], aws_conn_id)


def _first_version(lake: Lake, slug: str, aws_conn_id: str | None) -> changes.Published | None:
    """Return the state that the first version of the lake has published; None if its run is incomplete.

    That version did not record the versions of the libraries; its features count as computed by the present ones.
    """
    locations = lake.run(slug)
    try:
        summary: FeaturizeSummary = read_json(LakePath(locations.featurize_summary, aws_conn_id), "featurize writes it")
        arguments, model = summary["arguments"], summary["model"]["digest"]
    except (FileNotFoundError, ValueError, KeyError) as error:
        log.warning("The run %s of the lake's first version cannot be taken over: %s", slug, error)
        return None
    if not LakePath(locations.listing, aws_conn_id).exists():
        log.warning("The run %s of the lake's first version cannot be taken over: it has no listing", slug)
        return None
    before = fingerprint.recorded(model, arguments)
    return changes.Published(locations.listing, before, [], first_version=locations.root)


def _decide(
    name: str, found: Changes, pointer: Pointer | None, manifest: Manifest | None, params: Params
) -> FoundChanges:
    is_changed = bool(found["everything"] or found["new"] or found["changed"] or found["gone"])
    refit = None if is_changed else _refit(found, manifest, params)
    current = current_of(pointer)
    return {
        **select_counts(found),
        "run": name,
        "everything": found["everything"],
        "refit": refit,
        "nothing_to_do": None if is_changed or refit or current is None else _nothing_to_do(current),
        "base": pointer.digest if pointer else None,
    }


def _refit(found: Changes, manifest: Manifest | None, params: Params) -> str | None:
    """Return why the PCA has to be fitted although no image has changed."""
    if found["first_version"] or manifest is None:
        return "the published state is of the lake's first version"
    before = manifest["params"]
    differing = [
        f"{name}: {before.get(name)} → {params[name]}" for name in PCA_PARAMS if before.get(name) != params[name]
    ]
    basis = manifest["pca"].get("basis")
    if params["basis"] == REFIT_BASIS and basis is not None and basis["kept"]:
        differing.append(f"basis: {KEEP_BASIS} → {REFIT_BASIS}")
    return f"parameters of the components have changed ({'; '.join(differing)})" if differing else None


def _nothing_to_do(current: Current) -> str:
    return (
        f"nothing has changed since the state {current['state']}, which the run {current['run']} published with "
        f"{current['images']} images; set full_run to compute everything again"
    )


def _log(found: Changes, record: FoundChanges) -> None:
    changed = f"{found['new']} new, {found['changed']} changed, {found['gone']} gone"
    log.info("%d images: %s; %d to compute", found["listed"], changed, found["work"])
    for why in (record["everything"], record["refit"], record["nothing_to_do"]):
        if why:
            log.info("%s%s", why[:1].upper(), why[1:])
