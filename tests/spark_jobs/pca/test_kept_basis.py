"""Days of a lake whose runs keep the published basis: scores, variance, and the reasons to fit again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from spark_jobs.args import PcaArgs
from spark_jobs.errors import JobError
from spark_jobs.featurize import segments
from spark_jobs.lake import parts, schemas
from spark_jobs.numerics import decomposition, moments
from spark_jobs.pca import basis, job, scores
from spark_jobs.runtime import context
from tests.spark_jobs.feature_runs import realistic, write_listing
from tests.spark_jobs.in_process import Here
from tests.spark_jobs.lake_days import Lake, lake, photo

__all__ = ["lake"]

NEVER = 1e9
"""A threshold of the drift that no photos exceed."""


def run_pca(run: Path, how: str = "keep", **options: Any) -> dict[str, Any]:
    """Run pca on a day's state; return its summary."""
    chosen = {"variance_target": 0.9, "sample_images": 0, "drift_threshold": NEVER, **options}
    return dict(job.run(PcaArgs(f"file://{run}", basis=how, **chosen)))


def scores_of(run: Path) -> dict[str, bytes]:
    """The scores of a day by path relative to the photos, as bytes."""
    table = pq.read_table(run / "pca" / "scores", partitioning=None)
    components = (np.array(row).tobytes() for row in table["components"].to_pylist())
    return {path.partition("/data/")[2]: row for path, row in zip(table["path"].to_pylist(), components, strict=True)}


def mark_scores(run: Path) -> None:
    """Add 1 to all scores of a day, so that a copy differs from a projection."""
    for file in (run / "pca" / "scores").glob("*.parquet"):
        with pq.ParquetFile(file) as source:
            footer, groups = source.metadata.metadata, range(source.num_row_groups)
            tables = [source.read_row_group(group) for group in groups]
        with pq.ParquetWriter(file, schemas.SCORES) as writer:
            writer.add_key_value_metadata({b"basis_sha256": footer[b"basis_sha256"]})
            for table in tables:
                components = pa.array([[value + 1 for value in row] for row in table["components"].to_pylist()])
                columns = [table["path"], table["label"], components]
                writer.write_table(pa.table(columns, schema=schemas.SCORES))


def model_of(run: Path) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(run / "pca" / "model.npz") as file:
        return {name: file[name] for name in file.files}


def matrix_of(run: Path) -> np.ndarray[Any, Any]:
    """The scores of a run, in order."""
    return np.array(pq.read_table(run / "pca" / "scores", partitioning=None)["components"].to_pylist())


def vectors_of(lake: Lake) -> dict[str, np.ndarray[Any, Any]]:
    """The features of the present photos by path, computed from each photo alone."""
    rows = lake.expected().features
    return {
        path.partition("/data/")[2]: np.frombuffer(data, np.float32).astype(float) for path, (_, data) in rows.items()
    }


@pytest.fixture(autouse=True)
def without_insights(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the report shows of the photos has tests of its own."""
    monkeypatch.setattr(job.writing, "write", lambda *_arguments: None)


class Days:
    """Days of a lake that only add images, with features of the tests' own; each day is a segment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[Path] = []
        self.vectors: np.ndarray[Any, Any] = np.empty((0, 16), np.float32)

    def add(self, vectors: np.ndarray[Any, Any], *, everything: str | None = None, model: str = "m") -> Path:
        """Write the folder of a day's run as find_changes and featurize leave it; ``everything`` is in its changes."""
        name, before = f"day-{len(self.runs)}", self.runs[-1] if self.runs else None
        run = self.folder / name
        run.mkdir(parents=True)
        start = 0 if everything else len(self.vectors)
        self.vectors = np.concatenate([self.vectors, vectors])
        old = json.loads((before / "segments.json").read_text())["segments"] if before and not everything else []
        rows = pa.table(
            [self.paths[start:], ["a"] * len(self.paths[start:]), list(self.vectors[start:])], schema=schemas.FEATURES
        )
        pq.write_table(rows, run / "new.parquet")
        target = segments.Target(f"file://{self.folder}/segments", f"{name}-00112233", "f")
        new = segments.write(target, 0, [segments.Source((f"file://{run}/new.parquet",), ())], None)
        assert new is not None
        live = [*old, new]
        sources = {each["id"]: [each["id"]] for each in old}
        pq.write_table(pa.table({"path": pa.array([], pa.string())}, schema=schemas.GONE), run / "gone.parquet")
        write_listing(run, [(path, 1) for path in self.paths])
        published = f"file://{before}" if before else None
        for file, record in {
            "changes": {"segments": old, "everything": everything, "published": published, "work": len(rows)},
            "segments": {"folder": target.folder, "segments": live, "sources": sources},
            "featurize": {
                "features": len(self.vectors),
                "dimensions": 16,
                "fingerprint": {"digest": model, "inputs": {"model": model}},
            },
        }.items():
            (run / f"{file}.json").write_text(json.dumps(record))
        self.runs.append(run)
        return run

    @property
    def paths(self) -> list[str]:
        return [f"file:///lake/data/a/{row:04}.jpg" for row in range(len(self.vectors))]


def bright(n: int, seed: int) -> np.ndarray[Any, Any]:
    """Vectors that vary along other axes, around another mean, than those of :func:`realistic`."""
    return realistic(n, 16, seed)[:, ::-1] + 2


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Days:
    monkeypatch.setattr(context, "start", lambda _name: Here())
    return Days(tmp_path)


@pytest.fixture
def small(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake whose scores are in several files of several row groups."""
    monkeypatch.setattr(parts, "PART_ROWS", 3)
    monkeypatch.setattr(scores.blocks, "BLOCK_ROWS", 3)
    monkeypatch.setattr(scores, "ROW_GROUP_BYTES", 1)
    return lake


def test_old_scores_are_copies_and_new_photos_are_projected_on_the_same_axes(small: Lake) -> None:
    """Days with additions, changes and removals, whose segments are rewritten and merged."""
    first = small.run_day({f"{'ab'[n % 2]}/{n:02}.jpg": photo(n) for n in range(14)})
    fitted = run_pca(first.run, "refit")
    mark_scores(first.run)
    before, days = scores_of(first.run), [first]
    for number, changes in enumerate(
        (
            {f"{'ab'[n % 2]}/{n:02}.jpg": photo(n) for n in range(20, 24)},
            {"a/00.jpg": None, "b/13.jpg": None, "a/02.jpg": photo(102), "a/26.jpg": photo(26)},
            {"b/21.jpg": None, "b/03.jpg": photo(103), "a/27.jpg": b"no image"},
            {"a/27.jpg": photo(27)},
            {"a/20.jpg": None},
        )
    ):
        day = small.run_day(changes, small_segments=1 + number % 2)
        summary = run_pca(day.run)
        now, vectors, model = scores_of(day.run), vectors_of(small), model_of(day.run)
        new = {path for path, data in changes.items() if data is not None} & set(now)
        assert set(now) == set(vectors)
        assert {path: row for path, row in now.items() if path not in new} == {
            path: row for path, row in before.items() if path not in changes
        }
        for path in new:
            np.testing.assert_allclose(np.frombuffer(now[path]), model["components_"] @ vectors[path], rtol=1e-12)
        assert (day.run / "pca" / "model.npz").read_bytes() == (first.run / "pca" / "model.npz").read_bytes()
        assert summary["basis"]["digest"] == hashlib.sha256((first.run / "pca" / "model.npz").read_bytes()).hexdigest()
        assert (summary["basis"]["kept"], summary["basis"]["since"]) == (True, "day-0")
        assert summary["basis"]["copied"] == len(now) - len(new)
        assert summary["k"] == fitted["k"]
        covariance = np.cov(np.array(list(vectors.values())).T)
        axes = model["components_"]
        captured = np.trace(axes @ covariance @ axes.T) / np.trace(covariance)
        assert summary["variance_reached"] == pytest.approx(captured, rel=1e-9)
        assert sum(summary["explained_variance_ratio"]) == pytest.approx(captured, rel=1e-9)
        before = now
        days.append(day)
    assert len({segment["id"] for day in days for segment in day.live}) > len(days), "no segment was rewritten"
    lines = (day.run / "pca" / "pca_features.csv").read_text().splitlines()
    assert len(lines) == len(now) + 1


@pytest.mark.parametrize("kind", ["centred", "whitened"])
def test_kept_scores_of_every_kind_are_those_of_the_kept_model(days: Days, kind: str) -> None:
    first = days.add(realistic(30, 16))
    run_pca(first, "refit", scores=kind)
    second = days.add(realistic(9, 16, 7))
    assert run_pca(second, scores=kind)["basis"]["copied"] == 30
    model = model_of(first)
    expected = (days.vectors.astype(float) - model["mean_"]) @ model["components_"].T
    if kind == "whitened":
        expected /= np.sqrt(model["explained_variance_"])
    np.testing.assert_allclose(matrix_of(second), expected, rtol=1e-9, atol=1e-12)


def test_a_full_run_keeps_the_axes_and_projects_all_photos_again(days: Days) -> None:
    first = days.add(realistic(30, 16))
    run_pca(first, "refit")
    mark_scores(first)
    second = days.add(realistic(9, 16, 7), everything="full_run is set")
    summary = run_pca(second)
    assert (summary["basis"]["kept"], summary["basis"]["copied"]) == (True, 0)
    expected = days.vectors.astype(float) @ model_of(first)["components_"].T
    np.testing.assert_allclose(matrix_of(second), expected, rtol=1e-9)


def test_drift_beyond_the_threshold_fits_again_and_says_so_and_the_new_basis_is_kept_then(days: Days) -> None:
    first = days.add(realistic(200, 16))
    run_pca(first, "refit")
    calm = days.add(realistic(20, 16, 7))
    kept = run_pca(calm, drift_threshold=0.1, sample_images=10)
    assert kept["basis"]["kept"]
    assert kept["quality"]["basis"] == "kept, in use since the run day-0"
    assert kept["quality"]["images"] == 220
    assert kept["warnings"] == []
    changed = days.add(bright(400, 1))
    refit = run_pca(changed, drift_threshold=0.1, sample_images=10)
    assert (refit["basis"]["kept"], refit["basis"]["copied"], refit["basis"]["since"]) == (False, 0, "day-2")
    assert refit["basis"]["before"] == {"digest": kept["basis"]["digest"], "since": "day-0"}
    reason = refit["basis"]["why_fitted"]
    assert reason.startswith("the drift since the run day-0 has fitted them exceeds 0.1: ")
    assert refit["quality"]["basis"] == f"fitted by this run, since {reason}"
    assert [reason in warning for warning in refit["warnings"]] == [True]
    old, new = (model_of(run)["components_"] for run in (calm, changed))
    cosines = old @ new.T
    assert [axis["new"] for axis in refit["basis"]["axes"]] == (np.abs(cosines).argmax(axis=1) + 1).tolist()
    best = [cosines[row, axis["new"] - 1] for row, axis in enumerate(refit["basis"]["axes"])]
    np.testing.assert_allclose([axis["cosine"] for axis in refit["basis"]["axes"]], best, rtol=1e-12)
    reference = PCA(len(new), svd_solver="full").fit(days.vectors.astype(float))
    np.testing.assert_allclose(np.abs((reference.components_ * new).sum(axis=1)), 1, rtol=1e-9)
    after = run_pca(days.add(bright(9, 2)), drift_threshold=0.1)
    assert (after["basis"]["kept"], after["basis"]["since"]) == (True, "day-2")
    assert after["basis"]["digest"] == refit["basis"]["digest"] != kept["basis"]["digest"]


def test_drift_is_measured_against_the_basis_and_against_the_previous_run(days: Days) -> None:
    """Every day brings photos of another kind: the drift from the basis grows, that from day to day does not."""
    first = days.add(realistic(100, 16))
    run_pca(first, "refit")
    own = first / "pca" / "model.npz"
    start, mean = model_of(first), days.vectors.astype(float).mean(axis=0)
    since = []
    for number in range(3):
        run = days.add(bright(20, number))
        summary = run_pca(run, previous_model=own.as_uri())
        own, before, mean = run / "pca" / "fit" / "model.npz", mean, days.vectors.astype(float).mean(axis=0)
        since.append(summary["basis"]["drift"]["mean_shift"]["value"])
        assert since[-1] == pytest.approx(np.linalg.norm(mean - start["mean_"]) / np.sqrt(start["eigenvalues"].sum()))
        daily, change = summary["drift"]["mean_shift"]["value"], summary["drift"]["total_variance"]
        assert daily == pytest.approx(np.linalg.norm(mean - before) / np.sqrt(change["previous"]))
        assert change["current"] == pytest.approx(np.trace(np.cov(days.vectors.T.astype(float))))
        assert summary["basis"]["drift"]["total_variance"]["previous"] == pytest.approx(start["eigenvalues"].sum())
    assert since == sorted(since)


def test_a_run_that_fits_anyway_gives_the_map_from_the_published_axes(days: Days) -> None:
    first, second = days.add(realistic(100, 16)), days.add(realistic(9, 16, 7))
    run_pca(first, "refit")
    summary = run_pca(second, "refit")
    assert (summary["basis"]["why_fitted"], summary["basis"]["drift"], summary["warnings"]) == (None, None, [])
    cosines = model_of(first)["components_"] @ model_of(second)["components_"].T
    assert [axis["cosine"] for axis in summary["basis"]["axes"]] == pytest.approx(
        [row[np.abs(row).argmax()] for row in cosines]
    )


def test_a_first_run_has_nothing_to_keep_and_does_not_warn(days: Days) -> None:
    summary = run_pca(days.add(realistic(30, 16)))
    assert (summary["basis"]["kept"], summary["basis"]["before"], summary["basis"]["axes"]) == (False, None, [])
    assert summary["basis"]["why_fitted"] == "no state is published whose components could be kept"
    assert summary["warnings"] == []


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ({"variance_target": 0.5}, "variance_target: 0.9 → 0.5"),
        ({"n_components": 2, "variance_target": None}, "variance_target: 0.9 → None; n_components: None → 2"),
        ({"scores": "centred"}, "scores: projected → centred"),
    ],
)
def test_other_parameters_fit_again_and_say_why(days: Days, now: dict[str, Any], why: str) -> None:
    run_pca(days.add(realistic(30, 16)), "refit")
    summary = run_pca(days.add(realistic(5, 16, 7)), **now)
    assert (summary["basis"]["kept"], summary["basis"]["copied"]) == (False, 0)
    assert summary["basis"]["why_fitted"] == f"parameters of the components have changed ({why})"
    assert any(why in warning for warning in summary["warnings"])


def test_another_fingerprint_fits_again_and_says_what_has_changed(days: Days) -> None:
    run_pca(days.add(realistic(30, 16)), "refit")
    summary = run_pca(days.add(realistic(5, 16, 7), everything="the fingerprint has changed", model="other"))
    assert not summary["basis"]["kept"]
    assert summary["basis"]["why_fitted"] == "the fingerprint of the features has changed (model: m → other)"
    assert summary["basis"]["axes"] == [], "components of other features have no map"


def test_a_state_without_a_record_of_its_basis_counts_as_fitted_by_its_own_run(days: Days) -> None:
    first = days.add(realistic(30, 16))
    run_pca(first, "refit")
    record = json.loads((first / "pca.json").read_text())
    del record["basis"]
    (first / "pca.json").write_text(json.dumps(record))
    for number in (1, 2):
        summary = run_pca(days.add(realistic(5, 16, number)))
        assert (summary["basis"]["kept"], summary["basis"]["since"]) == (True, "day-0")


def test_a_damaged_basis_fits_again(days: Days) -> None:
    first, second = days.add(realistic(9, 16)), days.add(realistic(1, 16, 7))
    run_pca(first, "refit")
    model, arrays = first / "pca" / "model.npz", model_of(first)
    good = model.read_bytes()
    model.write_bytes(good[:-9])
    assert "cannot be read" in run_pca(second)["basis"]["why_fitted"]
    with model.open("wb") as stream:
        np.savez(stream, **(arrays | {"components_": -arrays["components_"]}))  # type: ignore[arg-type]
    assert "is not the one that its run has recorded" in run_pca(second)["basis"]["why_fitted"]


def test_damaged_scores_are_an_error_that_names_them(days: Days) -> None:
    first, second = days.add(realistic(9, 16)), days.add(realistic(1, 16, 7))
    run_pca(first, "refit")
    file = first / "pca" / "scores" / "part-00000.parquet"
    table = pq.read_table(file, partitioning=None)
    for damaged, message in (
        (table.slice(1), "has 8 rows, its segments have 9 images"),
        (table.set_column(0, "path", pa.array([f"x{n}" for n in range(9)])), "10 images of .* were projected"),
        (table.set_column(2, "components", pa.array([[0.0]] * 9)), "has 9 values in 9 rows, expected"),
        (table.replace_schema_metadata({"basis_sha256": "other"}), "has scores of the basis other"),
    ):
        pq.write_table(damaged, file)
        with pytest.raises(JobError, match=message):
            run_pca(second)


CENTRES = np.array([[3.4, 0], [-3.4, 0], [0, 3], [0, -3]])


def fruits(counts: tuple[int, ...], seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Features of four labels, around points on the first two axes, and the labels."""
    labels = np.repeat(np.arange(4), counts)
    vectors = np.random.default_rng(seed).normal(scale=0.5, size=(len(labels), 16))
    vectors[:, :2] += CENTRES[labels]
    return vectors.astype(np.float32), labels


def test_a_classifier_of_day_1_is_right_on_day_10_with_keep_and_wrong_with_refit(tmp_path: Path, days: Days) -> None:
    """More photos of two of the labels arrive, until a new fit finds the two components in the other order."""
    accuracy: dict[str, float] = {}
    first, labels = fruits((50, 50, 50, 50), 1)
    new, expected = fruits((20, 20, 20, 20), 10)
    reference = PCA(2, svd_solver="full").fit(first.astype(float))
    for how in ("keep", "refit"):
        lake = Days(tmp_path / how)
        run = lake.add(first)
        run_pca(run, how, n_components=2, variance_target=None, drift_threshold=0.1, scores="centred")
        classifier = KNeighborsClassifier().fit(matrix_of(run), labels)
        for day in range(2, 11):
            run = lake.add(new if day == 10 else fruits((0, 0, 6, 6), day)[0])
            run_pca(run, how, n_components=2, variance_target=None, drift_threshold=0.1, scores="centred")
        found = classifier.predict(matrix_of(run)[-len(new) :])
        accuracy[how] = float((found == expected).mean())
        if how == "keep":
            same = KNeighborsClassifier().fit(reference.transform(first.astype(float)), labels)
            assert found.tolist() == same.predict(reference.transform(new.astype(float))).tolist()
    assert accuracy["keep"] > 0.95
    assert accuracy["refit"] < 0.1


def test_a_basis_of_a_few_photos_is_given_up_although_chance_could_explain_the_difference(tmp_path: Path) -> None:
    """Chance between 12 and 600 photos is so large that the drift alone would never exceed it."""
    vectors = realistic(600, 40).astype(float)
    few, many = (moments.compute(vectors[:rows]) for rows in (12, 600))
    before, fresh = (decomposition.fit(each, 0.8) for each in (few, many))
    arguments = PcaArgs("file:///run", drift_threshold=0.1)
    requested = {name: getattr(arguments, name) for name in basis.ARGUMENTS}
    published = basis.Published("file:///run", b"", before, {"digest": "d", "since": "s"}, requested)
    why, found = basis.why_not(published, arguments, fresh, many.covariance)
    assert found is not None
    assert basis.drift.find_exceeded(found) == []
    kept = np.trace(before.components @ many.covariance @ before.components.T) / np.trace(many.covariance)
    best = np.linalg.eigvalsh(many.covariance)[::-1][: before.k].sum() / np.trace(many.covariance)
    assert best - kept > 0.1
    assert why is not None
    assert f"they explain {kept:.1%} of the variance, as many new ones {best:.1%}" in why
