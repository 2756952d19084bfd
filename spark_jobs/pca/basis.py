"""The basis of a run: the components on which its scores are projections, fitted by the run or kept from before.

A kept basis is the file of the published one, byte for byte. Its digest says whether two states have the same axes.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spark_jobs.args import (
    FEATURIZE_SUMMARY_FILE,
    KEEP_BASIS,
    PCA_MODEL_FILE,
    PCA_SUMMARY_FILE,
    PcaArgs,
)
from spark_jobs.fingerprint import differences
from spark_jobs.lake import published_run, storage
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.quality import axes, drift
from spark_jobs.records import Axis, Basis, BasisInUse, Drift

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

NOTHING_PUBLISHED = "no state is published whose components could be kept"

ARGUMENTS = ("variance_target", "n_components", "scores")
"""The arguments on which a fit depends, apart from the features."""


class UnavailableError(Exception):
    """There is no published basis for the features of the run. The message gives the reason."""


@dataclass(frozen=True)
class Published:
    """The published basis.

    Attributes
    ----------
    run : str
        URI of the folder of the run whose state is published.
    file : bytes
        Its ``pca/model.npz``.
    model : FittedPca
        The content of that file.
    in_use : BasisInUse
    arguments : dict
        The values of :data:`ARGUMENTS` with which the basis was fitted.
    """

    run: str
    file: bytes
    model: FittedPca
    in_use: BasisInUse
    arguments: dict[str, object]


@dataclass(frozen=True)
class Choice:
    """The basis that a run uses, and why.

    Attributes
    ----------
    model : FittedPca
    file : bytes
        Its ``pca/model.npz``.
    ratio : ndarray of float64, shape (k,)
        Shares of the variance of the run's features that its components explain; descending only if the run fitted it.
    in_use : BasisInUse
    published : Published or None
        The basis before; None without one whose features can be compared.
    kept : bool
        Whether ``model`` is the published one.
    why_fitted : str or None
        Why it is not, although the arguments ask to keep it.
    drift : Drift or None
        How the features have changed since the published basis was fitted; None if the arguments do not ask to keep it.
    """

    model: FittedPca
    file: bytes
    ratio: Floats
    in_use: BasisInUse
    published: Published | None = None
    kept: bool = False
    why_fitted: str | None = None
    drift: Drift | None = None
    axes: list[Axis] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """Warn if the axes have changed although they should have been kept."""
        if self.why_fitted in {None, NOTHING_PUBLISHED}:
            return []
        advice = "all scores have changed: the report has the map from the old components to the new ones"
        return [f"the components were fitted again although basis is {KEEP_BASIS}: {self.why_fitted}; {advice}"]

    def describe(self) -> str:
        """Return one line about the basis."""
        if self.kept:
            return f"kept, in use since the run {self.in_use['since']}"
        return f"fitted by this run{f', since {self.why_fitted}' if self.why_fitted else ''}"

    def record(self, copied: int) -> Basis:
        """Return the record for the summary; ``copied`` is the number of images whose scores were copied."""
        return {
            **self.in_use,
            "kept": self.kept,
            "why_fitted": self.why_fitted,
            "copied": copied,
            "before": self.published.in_use if self.published else None,
            "drift": self.drift,
            "axes": self.axes,
        }


def find_published(run: str) -> Published:
    """Return the basis of the state that was published when the run found its changes.

    Parameters
    ----------
    run : str
        URI of the run's folder.

    Raises
    ------
    UnavailableError
        If no state is published, if its basis is incomplete or damaged, or if its features have another fingerprint.
    """
    folder = published_run.find(run)
    if folder is None:
        raise UnavailableError(NOTHING_PUBLISHED)
    try:
        before, now = (
            storage.read_json(storage.join(each, FEATURIZE_SUMMARY_FILE))["fingerprint"] for each in (folder, run)
        )
        summary = storage.read_json(storage.join(folder, PCA_SUMMARY_FILE))
        file = storage.read_bytes(storage.join(folder, PCA_MODEL_FILE))
        model = FittedPca.from_npz(file)
        arguments = {name: summary[name] for name in ARGUMENTS}
        recorded = summary.get("basis") or {"digest": None, "since": folder.rstrip("/").rpartition("/")[2]}
        in_use: BasisInUse = {"digest": hashlib.sha256(file).hexdigest(), "since": recorded["since"]}
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise UnavailableError(
            f"the components of {folder} cannot be read ({type(error).__name__}: {error})"
        ) from error
    if before["digest"] != now["digest"]:
        raise UnavailableError(f"the fingerprint of the features has changed ({differences(before, now)})")
    if recorded["digest"] not in {None, in_use["digest"]}:
        raise UnavailableError(f"the file of the components of {folder} is not the one that its run has recorded")
    return Published(folder, file, model, in_use, arguments)


def choose(arguments: PcaArgs, fresh: FittedPca, covariance: Floats) -> Choice:
    """Return the basis that a run uses: the published one if it is to be kept and may be, or the run's own fit.

    Parameters
    ----------
    arguments : PcaArgs
    fresh : FittedPca
        The run's own fit.
    covariance : ndarray of float64, shape (d, d)
        Covariance of the run's features.
    """
    keeps = arguments.basis == KEEP_BASIS
    published, why = None, None
    try:
        published = find_published(arguments.run)
    except UnavailableError as error:
        why = str(error)
    except OSError as error:  # a run that fits anyway can do without the map of the axes
        if keeps:
            raise
        why = str(error)
    found = None
    if keeps and published is not None:
        why, found = why_not(published, arguments, fresh, covariance)
    if published is not None and keeps and why is None:
        choice = Choice(
            published.model,
            published.file,
            explained_variance_ratio(published.model, covariance),
            published.in_use,
            published,
            kept=True,
            drift=found,
        )
    else:
        file = fresh.to_npz()
        in_use: BasisInUse = {
            "digest": hashlib.sha256(file).hexdigest(),
            "since": arguments.run.rstrip("/").rpartition("/")[2],
        }
        choice = Choice(
            fresh,
            file,
            fresh.explained_variance_ratio[: fresh.k],
            in_use,
            published,
            why_fitted=why if keeps else None,
            drift=found,
            axes=axes.match(published.model.components, fresh.components) if published else [],
        )
    logger.info("the basis is %s", choice.describe())
    return choice


def why_not(
    published: Published, arguments: PcaArgs, fresh: FittedPca, covariance: Floats
) -> tuple[str | None, Drift | None]:
    """Return why the published basis must not be kept, or None, and the drift of the features since its fit.

    Parameters
    ----------
    published : Published
    arguments : PcaArgs
    fresh : FittedPca
        The run's own fit.
    covariance : ndarray of float64, shape (d, d)
        Covariance of the run's features.
    """
    requested = {name: getattr(arguments, name) for name in ARGUMENTS}
    if published.arguments != requested:
        differing = [
            f"{name}: {published.arguments[name]} → {value}"
            for name, value in requested.items()
            if published.arguments[name] != value
        ]
        return f"parameters of the components have changed ({'; '.join(differing)})", None
    threshold = arguments.drift_threshold
    found = drift.compare(published.model, fresh, covariance, threshold)
    found["warnings"] = []  # they are about the previous run
    problems = drift.find_exceeded(found)
    explained = found["variance_explained"]
    # Chance explains much if the basis was fitted on a few photos only; then it has to go, too.
    if explained is not None and explained["current"] - explained["previous"] > threshold:
        problems.append(
            f"they explain {explained['previous']:.1%} of the variance, as many new ones {explained['current']:.1%}"
        )
    if not problems:
        return None, found
    since = published.in_use["since"]
    return f"the drift since the run {since} has fitted them exceeds {threshold:g}: {'; '.join(problems)}", found


def explained_variance_ratio(model: FittedPca, covariance: Floats) -> Floats:
    """Return the share of the variance along each component, vᵢᵀ·C·vᵢ / tr C; zeros if there is no variance.

    Parameters
    ----------
    model : FittedPca
        It may have been fitted on other features.
    covariance : ndarray of float64, shape (d, d)

    Returns
    -------
    ndarray of float64, shape (k,)
    """
    captured = np.einsum("ij,ij->i", model.components @ covariance, model.components)
    total = float(np.trace(covariance))
    return captured / total if total > 0 else np.zeros(model.k)
