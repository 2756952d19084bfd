"""Publication: ``results/`` and ``results_csv/`` show the state that ``current.json`` names.

The pointer is moved first; these folders follow it, by copies that the store makes. An interrupted update is completed
by the next run. New runs are compared with the published run.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress

from include.lake.layout import SLUG, Lake
from include.lake.objects import LakePath, delete_file, read_json, write_json
from include.lake.state import current_of, read_manifest, read_pointer
from include.records import Previous, Shown
from spark_jobs.args import RESULTS_FILE
from spark_jobs.lake.storage import copy

log = logging.getLogger(__name__)


def find_previous(lake: Lake, slug: str, model: str, aws_conn_id: str | None) -> Previous:
    """Return the run that is published now; the principal components of a new run are compared with its components.

    If no comparison is possible, ``note`` says why. This is never an error, since publishing the new run repairs it.

    Parameters
    ----------
    lake : Lake
        The lake.
    slug : str
        The new run.
    model : str
        Digest of the new run's model. Features of different models cannot be compared.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    try:
        published = read_json(LakePath(lake.current, aws_conn_id), "publish_results writes it")["run"]
    except FileNotFoundError:
        return _incomparable("no run had been published before")
    except (ValueError, KeyError) as error:
        return _incomparable(_report_damage(lake, str(error)))
    if not isinstance(published, str) or not re.fullmatch(SLUG, published):
        return _incomparable(_report_damage(lake, f"its run is {published!r}"))
    if published == slug:
        return _incomparable("this run itself was the published one")
    run = lake.run(published)
    try:
        digest = read_json(LakePath(run.featurize_summary, aws_conn_id), "featurize writes it")["model"]["digest"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        return _incomparable(f"the summary of the run {published} does not name its model ({error})", published)
    if digest != model:
        return _incomparable(f"its features are from the model {digest[:16]}, this run's from {model[:16]}", published)
    # A run that has kept a basis has a fit of its own, too.
    for model in (run.pca_fit, run.pca_model):
        if LakePath(model, aws_conn_id).exists():
            return {"run": published, "pca_model": model, "note": None}
    return _incomparable(f"{run.pca_model} does not exist any more", published)


def _incomparable(note: str, run: str | None = None) -> Previous:
    return {"run": run, "pca_model": None, "note": note}


def _report_damage(lake: Lake, problem: str) -> str:
    log.warning(
        "%s does not name a run (%s): nothing is compared, and its readers will fail until a run publishes, which this "
        "run will do at its end",
        lake.current,
        problem,
    )
    return f"{lake.current} did not name a run"


def show_published(lake: Lake, aws_conn_id: str | None) -> None:
    """Make ``results/`` and ``results_csv/`` show the published state; do nothing if they do already.

    The CSV is replaced, missing files are copied, and then the files of earlier states are deleted. If the pointer has
    moved meanwhile, all of this is repeated: whichever run does it, the folders show the last state in the end.

    Parameters
    ----------
    lake : Lake
        The lake.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    done = LakePath(lake.shown, aws_conn_id)
    is_late = False
    while True:
        pointer = read_pointer(lake, aws_conn_id)
        current = current_of(pointer)
        # What a late process has copied is there, even if another run has recorded that it was done.
        if pointer is None or current is None or (_shown(done) == current["manifest"] and not is_late):
            return
        names = read_manifest(lake, current["manifest"], aws_conn_id)["results"]
        copy(lake.absolute(current["csv"]), lake.results_csv, done.buckets)
        others = _copy_features(lake, names, aws_conn_id)
        # A late process must not delete what the next state has added.
        is_late = read_pointer(lake, aws_conn_id) != pointer
        if not is_late:
            _delete_files(others)
            record: Shown = {"manifest": current["manifest"]}
            write_json(done, record)


def _shown(path: LakePath) -> str | None:
    """Return the manifest of the state that the folders show, or None if that is not known."""
    try:
        return str(read_json(path, "publish_results writes it").get("manifest"))
    except (FileNotFoundError, ValueError):
        return None


def _copy_features(lake: Lake, names: list[str], aws_conn_id: str | None) -> list[LakePath]:
    """Copy the files that ``results/`` lacks; return the other files in it, whose rows are now in copied files too."""
    target = LakePath(lake.results, aws_conn_id)
    found = target.names()
    for name in names:
        if name not in found:
            copy(lake.features(segment_of(name)), (target / name).uri, target.buckets)
    return [target / name for name in found if name not in names]


def _delete_files(paths: list[LakePath]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):  # another attempt may delete it too
            delete_file(path)


def segment_of(name: str) -> str:
    """Return the id of the segment from which a file in ``results/`` was copied."""
    before, after = RESULTS_FILE.split("{}")
    return name.removeprefix(before).removesuffix(after)
