"""find_changes decides what a run has to do, and says why, without losing or repeating an image."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.lake import publication
from include.lake.layout import SLUG
from include.tasks import changes as tasks
from include.tasks import plan, results
from spark_jobs import fingerprint
from spark_jobs.args import FeaturizeArgs
from tests.include.run_folders import edit_json, features_table, found_of, run_jobs, write_json, write_parquet
from tests.include.run_records import JOBS, MODEL_DIGEST, created_record, kept_basis_record, plan_record

Opened = Callable[..., dict[str, Any]]
SLUGS = [f"202611{day}T120000Z-0123abcd" for day in range(10, 30)]
LABELS = ("Kiwi", 'a,"b"', "crème brûlée", "zu%20+#")


class Days:
    """Runs on a lake, one after another."""

    def __init__(self, lake: Path, opened: Opened) -> None:
        self.lake, self._opened, self._number = lake, opened, -1
        self.run: dict[str, Any] = {}

    def image(self, name: str, size: int = 7) -> Path:
        path = self.lake / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
        return path

    def open(self, **params: Any) -> dict[str, Any]:
        self._number += 1
        self.run = self._opened(max_reject_ratio=0.5, **params) | {"slug": SLUGS[self._number]}
        return self.run

    def find(self, **params: Any) -> dict[str, Any]:
        """Open a run; return what find_changes finds, as it leaves XCom."""
        return json.loads(json.dumps(tasks.find_changes(self.open(**params))))

    @property
    def folder(self) -> Path:
        return self.lake / "runs" / self.run["slug"]

    def finish(self, found: dict[str, Any], **pca: Any) -> dict[str, Any]:
        """Run the jobs, with changes of the summary of pca, and publish; return the pointer."""
        run_jobs(self.lake, self.folder)
        edit_json(self.folder / "pca.json", **pca)
        edit_json(self.folder / "pca.json", **{name: self.run["params"][name] for name in ("n_components", "scores")})
        verified = results.verify_results(self.run, found, JOBS)
        return dict(results.publish_results(self.run, found, verified, plan_record(), created_record(), None))

    def paths(self, name: str) -> list[str]:
        prefix = f"file://{self.lake}/data/"
        return [path.removeprefix(prefix) for path in pq.read_table(self.folder / name)["path"].to_pylist()]

    def published(self) -> list[str]:
        prefix = f"file://{self.lake}/data/"
        return sorted(path.removeprefix(prefix) for path in pd.read_parquet(self.lake / "results")["path"])


@pytest.fixture
def days(lake: Path, opened: Opened) -> Days:
    """A lake with four images."""
    days = Days(lake, opened)
    (lake / "data" / "Kiwi" / "1.JPG").unlink()
    for label in LABELS:
        days.image(f"{label}/1.jpg")
    return days


FOUR = sorted((f"{label}/1.jpg" for label in LABELS), key=str.encode)


def counts(found: dict[str, Any]) -> list[int]:
    return [found[name] for name in ("listed", "new", "changed", "gone", "work", "work_bytes")]


def test_first_run_computes_all_images_and_writes_them_down_in_order(days: Days) -> None:
    found = days.find()
    assert found == {
        "run": days.run["slug"],
        "listed": 4,
        "new": 4,
        "changed": 0,
        "gone": 0,
        "work": 4,
        "work_bytes": 28,
        "everything": "no state is published yet",
        "refit": None,
        "nothing_to_do": None,
        "base": None,
    }
    assert days.paths("listing.parquet") == days.paths("work.parquet") == FOUR
    assert days.paths("gone.parquet") == []
    table = pq.read_table(days.folder / "listing.parquet").to_pylist()
    for row, name in zip(table, FOUR, strict=True):
        modified = pd.Timestamp((days.lake / "data" / name).stat().st_mtime_ns, tz="UTC").floor("us")
        assert row == {
            "path": f"file://{days.lake}/data/{name}",
            "label": name.partition("/")[0],
            "size": 7,
            "modification_time": modified,
            "etag": None,
        }
    written = json.loads((days.folder / "changes.json").read_text())
    assert written["fingerprint"] == fingerprint.planned(MODEL_DIGEST, FeaturizeArgs("i", "r", "m"))
    assert (written["segments"], written["first_version"], written["published"]) == ([], None, None)


def test_nothing_new_is_a_reason_to_skip_the_rest(days: Days) -> None:
    current = days.finish(days.find())
    before = (days.lake / "current.json").read_bytes()
    for params in ({}, {"min_worker_nodes": 7, "max_cost_eur": 0.0, "images_per_task": 9, "max_reject_ratio": 0.4}):
        params = {"max_reject_ratio": 0.5} | params
        found = json.loads(json.dumps(tasks.find_changes(days.open() | {"params": days.run["params"] | params})))
        assert counts(found) == [4, 0, 0, 0, 0, 0]
        assert (found["everything"], found["refit"]) == (None, None)
        reason = f"nothing has changed since the state 1, which the run {SLUGS[0]} published with 4 images"
        assert found["nothing_to_do"] == f"{reason}; set full_run to compute everything again"
        with pytest.raises(AirflowSkipException) as skipped:
            plan.plan_cluster(days.run, found)  # type: ignore[arg-type]
        assert str(skipped.value) == found["nothing_to_do"]
    assert (days.lake / "current.json").read_bytes() == before
    assert current["run"] == SLUGS[0]


def test_days_with_additions_changes_and_deletions_lead_to_the_images_that_are_there(days: Days) -> None:
    days.finish(days.find())
    days.image("Kiwi/2.jpg", 3)
    found = days.find()
    assert counts(found) == [5, 1, 0, 0, 1, 3]
    assert days.paths("work.parquet") == ["Kiwi/2.jpg"]
    written = json.loads((days.folder / "changes.json").read_text())
    assert [segment["id"] for segment in written["segments"]] == [f"{SLUGS[0]}-44556677-00000"]
    assert written["published"] == f"file://{days.lake}/runs/{SLUGS[0]}"
    days.finish(found)
    assert days.published() == sorted([*FOUR, "Kiwi/2.jpg"])
    days.image("Kiwi/1.jpg", 8)
    (days.lake / "data" / LABELS[1] / "1.jpg").unlink()
    found = days.find()
    assert counts(found) == [4, 0, 1, 1, 1, 8]
    assert days.paths("work.parquet") == ["Kiwi/1.jpg"]
    assert days.paths("gone.parquet") == sorted(["Kiwi/1.jpg", f"{LABELS[1]}/1.jpg"], key=str.encode)
    days.finish(found)
    assert days.published() == sorted({*FOUR, "Kiwi/2.jpg"} - {f"{LABELS[1]}/1.jpg"})
    assert days.find()["nothing_to_do"]
    path = days.image(f"{LABELS[1]}/1.jpg")
    days.finish(days.find())
    os.utime(path, (1, 1))
    assert counts(days.find()) == [5, 0, 1, 0, 1, 7], "the same size with another time"


def test_changed_parameters_of_the_components_fit_again_without_computing_an_image(days: Days) -> None:
    days.finish(days.find())
    found = days.find(n_components=2, scores="whitened")
    assert counts(found) == [4, 0, 0, 0, 0, 0]
    assert found["refit"] == (
        "parameters of the components have changed (n_components: None → 2; scores: projected → whitened)"
    )
    assert (found["everything"], found["nothing_to_do"]) == (None, None)
    assert plan.plan_cluster(days.run, found)["forecast"]["images"] == 0  # type: ignore[arg-type]
    current = days.finish(found)
    assert (current["state"], current["images"]) == (2, 4)
    assert current["features"] == [f"segments/{SLUGS[0]}-44556677-00000/features.parquet"]
    assert days.find(n_components=2, scores="whitened")["nothing_to_do"]


def test_a_basis_that_was_kept_is_fitted_again_when_it_is_no_longer_to_be_kept(days: Days) -> None:
    days.finish(days.find())
    assert days.find(basis="keep")["nothing_to_do"], "the published basis is the one to keep"
    days.image("Kiwi/2.jpg")
    found = days.find(basis="keep")
    published = json.loads((days.folder / "changes.json").read_text())["published"]
    assert published == f"file://{days.lake}/runs/{SLUGS[0]}"
    current = days.finish(found, basis=kept_basis_record(since=SLUGS[0], copied=4))
    assert current["basis"]["since"] == SLUGS[0]
    assert days.find(basis="keep")["nothing_to_do"]
    found = days.find()
    assert found["refit"] == "parameters of the components have changed (basis: keep → refit)"
    assert days.finish(found)["basis"]["since"] == days.run["slug"]
    assert days.find()["nothing_to_do"]


def test_full_run_computes_all_images_again(days: Days) -> None:
    days.finish(days.find())
    days.image("Kiwi/2.jpg")
    found = days.find(full_run=True)
    assert counts(found) == [5, 1, 0, 0, 5, 35]
    assert (found["everything"], found["nothing_to_do"]) == ("full_run is set", None)
    assert json.loads((days.folder / "changes.json").read_text())["segments"] == []
    current = days.finish(found)
    assert current["features"] == [f"segments/{days.run['slug']}-44556677-00000/features.parquet"]
    assert days.published() == sorted([*FOUR, "Kiwi/2.jpg"])


def test_changed_fingerprint_computes_everything_and_the_plan_says_so_with_count_and_cost(
    days: Days, caplog: pytest.LogCaptureFixture
) -> None:
    days.finish(days.find())
    for params, model, difference in [
        ({"exif_orientation": "apply"}, MODEL_DIGEST, "exif_orientation: ignore → apply"),
        ({}, "cd" * 32, f"model: {'ab' * 8}… → {'cd' * 8}…"),
    ]:
        run = days.open(**params)
        run["model"]["digest"] = model
        found: Any = json.loads(json.dumps(tasks.find_changes(run)))  # type: ignore[arg-type]
        assert counts(found) == [4, 0, 0, 0, 4, 28]
        assert found["everything"] == f"the fingerprint of the features has changed ({difference})"
        caplog.clear()
        with caplog.at_level(logging.INFO, "include.tasks.plan"):
            planned = plan.plan_cluster(run, found)  # type: ignore[arg-type]
        text = caplog.text
        assert f"All 4 images are computed: {found['everything']}" in text
        high = planned["forecast"]["expected"]["eur"]["high"]
        assert "Forecast: " in text
        assert "for 4 images" in text
        assert high is None or "€" in text


def test_plan_of_everything_is_stopped_by_the_cap_before_a_cluster_exists(days: Days) -> None:
    days.finish(days.find())
    found: Any = days.find(exif_orientation="apply", max_cost_eur=0.01)
    with pytest.raises(AirflowFailException, match=r"CostCapError: max_cost_eur=0\.01"):
        plan.plan_cluster(days.run, found)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- a lake of the first version


def write_first_version(days: Days, names: list[str]) -> Path:
    """Write the published run of the lake's first version."""
    run = days.lake / "runs" / "20261101T120000Z-0123abcd"
    paths = [f"file://{days.lake}/data/{name}" for name in names]
    labels = [name.partition("/")[0] for name in names]
    columns = features_table(len(names)) | {"path": paths, "label": labels}
    from spark_jobs.lake import schemas

    write_parquet(run / "features" / "part-00000.parquet", columns, schemas.FEATURES)
    table = {"path": paths, "label": labels, "size": [(days.lake / "data" / name).stat().st_size for name in names]}
    times = [pd.Timestamp((days.lake / "data" / name).stat().st_mtime_ns, tz="UTC").floor("us") for name in names]
    frame = pd.DataFrame(table | {"modification_time": times}).astype({"modification_time": "datetime64[us, UTC]"})
    frame.to_parquet(run / "listing.parquet", index=False)
    arguments = asdict(FeaturizeArgs("i", "r", "m"))
    for name in ("changes", "segments", "small_segments"):  # arguments that did not exist
        del arguments[name]
    write_json(run / "featurize.json", {"model": {"digest": MODEL_DIGEST}, "arguments": arguments, "features": 4})
    write_json(run / "manifest.json", {"run": run.name})
    write_json(days.lake / "current.json", {"run": run.name, "run_id": "x", "images": len(names), "results": []})
    return run


def test_lake_of_the_first_version_is_taken_over_without_computing_an_image(days: Days) -> None:
    old = write_first_version(days, FOUR)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    found = days.find()
    assert counts(found) == [4, 0, 0, 0, 0, 0]
    assert found["refit"] == "the published state is of the lake's first version"
    assert (found["everything"], found["nothing_to_do"]) == (None, None)
    assert json.loads((days.folder / "changes.json").read_text())["first_version"] == f"file://{old}"
    current = days.finish(found)
    assert (current["state"], days.published()) == (1, sorted(FOUR))
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert days.find()["nothing_to_do"]


def test_changes_since_a_state_of_the_first_version_are_the_only_work(days: Days) -> None:
    write_first_version(days, FOUR)
    days.image("Kiwi/2.jpg")
    os.utime(days.image("Kiwi/1.jpg"), (5, 5))
    (days.lake / "data" / LABELS[3] / "1.jpg").unlink()
    found = days.find()
    assert counts(found) == [4, 1, 1, 1, 2, 14]
    days.finish(found)
    assert days.published() == sorted([*FOUR[:3], "Kiwi/2.jpg"])


def test_first_version_with_another_fingerprint_is_computed_again_and_the_reason_names_it(days: Days) -> None:
    old = write_first_version(days, FOUR)
    summary = json.loads((old / "featurize.json").read_text())
    summary["arguments"]["exif_orientation"] = "apply"
    write_json(old / "featurize.json", summary)
    found = days.find()
    assert counts(found)[4:] == [4, 28]
    assert "exif_orientation: apply → ignore" in found["everything"]
    assert json.loads((days.folder / "changes.json").read_text())["first_version"] is None


@pytest.mark.parametrize("damage", ["featurize.json", "listing.parquet", "model"])
def test_incomplete_run_of_the_first_version_is_refused_with_a_sentence_and_computed_again(
    days: Days, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = write_first_version(days, FOUR)
    if damage == "model":
        write_json(old / "featurize.json", {"arguments": {}})
    else:
        (old / damage).unlink()
    found = days.find()
    assert counts(found) == [4, 4, 0, 0, 4, 28]
    assert found["everything"]
    assert f"The run {old.name} of the lake's first version cannot be taken over: " in caplog.text
    assert days.finish(found)["state"] == 1


# ------------------------------------------------------------------------------------------- damage, interruption


def test_damaged_pointer_computes_everything_and_is_replaced(days: Days, caplog: pytest.LogCaptureFixture) -> None:
    days.finish(days.find())
    (days.lake / "current.json").write_text("{")
    found = days.find()
    assert counts(found)[4:] == [4, 28]
    assert "current.json is damaged: its readers fail until this run publishes, and all images are computed" in (
        caplog.text
    )
    assert days.finish(found)["run"] == days.run["slug"]
    assert days.published() == sorted(FOUR)


def test_missing_manifest_stops_the_run_and_says_what_to_do(days: Days) -> None:
    current = days.finish(days.find())
    (days.lake / current["manifest"]).unlink()
    with pytest.raises(AirflowFailException, match=r"MissingManifestError: .*does not exist.*Restore the file"):
        days.find()


def test_interrupted_publication_is_completed_by_the_next_run_even_if_it_has_nothing_to_do(
    days: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    days.finish(days.find())
    days.image("Kiwi/2.jpg")
    found = days.find()
    with monkeypatch.context() as patched:
        patched.setattr(publication, "copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            days.finish(found)
    assert json.loads((days.lake / "current.json").read_text())["state"] == 2
    assert days.published() == sorted(FOUR)
    assert days.find()["nothing_to_do"]
    assert days.published() == sorted([*FOUR, "Kiwi/2.jpg"])


def test_wrong_folder_of_images_fails_without_retry_and_is_named(days: Days) -> None:
    for params, message in [
        ({"data_prefix": "new"}, r"NoImagesError: the folder of images file://.*/new does not exist; put images at"),
        ({"data_prefix": "models"}, r"NoImagesError: no file in file://.*/models matches the pattern '\*\.jpg,"),
        ({"image_pattern": "*.png"}, r"NoImagesError: no file in file://.*/data matches the pattern '\*\.png'"),
    ]:
        run = days.open(**params)
        run["images"] = f"file://{days.lake}/{run['params']['data_prefix']}"
        with pytest.raises(AirflowFailException, match=message):
            tasks.find_changes(run)  # type: ignore[arg-type]
    not_utf8 = os.fsencode(days.lake / "data") + b"/\xff.jpg"
    Path(os.fsdecode(not_utf8)).touch()
    with pytest.raises(AirflowFailException, match=r"WalkError: the name of .*/data/\\xff\.jpg is not valid UTF-8"):
        days.find()


def test_record_of_the_task_is_that_of_the_file(days: Days) -> None:
    found = days.find()
    assert found_of(days.folder, base=None, refit=None, nothing_to_do=None) == found


def test_repeated_run_that_has_published_gets_a_folder_of_its_own_each_time(days: Days) -> None:
    """The published state names files in the run's folder: they stay as they are."""
    found = days.find()
    run = days.run
    assert tasks.find_changes(run)["run"] == found["run"] == run["slug"], "nothing is published yet"  # type: ignore[arg-type]
    days.finish(found)
    before = {path: path.read_bytes() for path in days.folder.rglob("*.parquet")}
    names = {found["run"]}
    for number in range(2):
        days.image(f"Kiwi/new {number}.jpg")
        again = tasks.find_changes(run | {"round": f"{number}123456789ab"})  # type: ignore[arg-type]
        assert again["new"] == number + 1
        assert re.fullmatch(SLUG, again["run"])
        assert again["run"].startswith(f"{found['run']}-")
        names.add(again["run"])
    assert len(names) == 3
    assert {path: path.read_bytes() for path in before} == before
