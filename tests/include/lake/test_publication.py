"""``results/`` and ``results_csv/`` show the published state, whatever happens while they follow it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from include.lake import publication
from include.lake.layout import Lake
from include.lake.publication import find_previous, segment_of, show_published
from spark_jobs import args
from tests.include.lake.faults import Killed, Steps, kill, observed
from tests.include.lake.places import Folder, Place, base_of, commit_run, files, publish, rows, upload
from tests.include.run_folders import write_json, write_run, write_segment, write_state
from tests.include.run_records import MODEL_DIGEST

FIRST, SECOND, THIRD = (f"202611{day}T120000Z-aaaaaaaa" for day in (21, 22, 23))
CSV = "results_csv/pca_features.csv"
OPERATIONS = ("read_pointer", "copy", "delete_file", "write_json")
"""Everything that publication does to the files of the lake, and where it looks at the pointer."""


def read_segments(run: Path) -> list[Any]:
    return json.loads((run / args.LIVE_SEGMENTS_FILE).read_text())["segments"]


class States:
    """Three runs: the second one adds images; the third one replaces one segment, and another one is gone.

    Attributes
    ----------
    paths : list of set of str
        The paths of the rows of each state.
    """

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.runs = [write_run(folder, 5, FIRST)]
        self.runs.append(write_run(folder, 8, SECOND, kept=read_segments(self.runs[0])))
        before = read_segments(self.runs[1])
        again = write_segment(folder, f"{THIRD}-00112233-00000", 2, 0)
        last = write_segment(folder, f"{THIRD}-00112233-00001", 3, 100)
        self.runs.append(write_state(folder, THIRD, [again, before[1], before[2], last], work=5))
        self.paths = [
            {
                path
                for segment in read_segments(run)
                for path in pd.read_parquet(folder / "segments" / segment["id"] / "features.parquet")["path"]
            }
            for run in self.runs
        ]
        upload(place, folder)

    def reset(self, number: int) -> str | None:
        """Publish a state in a lake in which nothing was published; return the base for the next one."""
        for name in self.place.names():
            if name.startswith(("results", "current", "manifests")):
                self.place.delete(name)
        for run in self.runs[: number + 1]:
            publish(self.place, run)
        return base_of(self.place)

    def shown(self) -> dict[str, bytes]:
        """Return what people read."""
        return files(self.place, "results", "current.json")


@pytest.fixture
def states(place: Place, tmp_path: Path) -> States:
    return States(place, tmp_path / "source")


def test_results_are_the_notebooks_columns_with_one_row_per_image(states: States, tmp_path: Path) -> None:
    for run, paths in zip(states.runs, states.paths, strict=True):
        publish(states.place, run)
        frame = rows(states.place)
        assert list(frame.columns) == ["path", "label", "features"]
        assert frame["path"].is_unique
        assert set(frame["path"]) == paths
        assert all(vector.dtype == np.float32 and vector.shape == (1280,) for vector in frame["features"])
        folder = tmp_path / "source" / "segments"
        sources = [pd.read_parquet(folder / each["id"] / "features.parquet") for each in read_segments(run)]
        expected = pd.concat(sources).sort_values("path", ignore_index=True)
        pd.testing.assert_frame_equal(frame, expected)
        assert states.place.read(CSV) == (run / args.CSV_FILE).read_bytes()
        current = json.loads(states.place.read("current.json"))
        assert (current["run"], current["images"]) == (run.name, len(paths))
        assert json.loads(states.place.read("results.json")) == {"manifest": current["manifest"]}


def test_repetition_changes_and_copies_nothing(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(states.place, states.runs[0])
    before = files(states.place)
    steps = Steps(-2, kill)
    with observed(monkeypatch, publication, OPERATIONS, steps):
        show_published(states.place.lake, states.place.conn)
    assert {step.split()[1] for step in steps.seen} == {"read_pointer"}
    assert files(states.place) == before


def test_lake_without_a_published_state_has_no_results(place: Place) -> None:
    show_published(place.lake, place.conn)
    assert place.names() == set()
    for pointer in (b"{", b'{"run": "a run of the first version"}'):
        place.write("current.json", pointer)
        show_published(place.lake, place.conn)
        assert files(place) == {"current.json": pointer}


def test_files_of_the_first_version_and_other_leftovers_go_with_the_first_state(states: States) -> None:
    place = states.place
    for name in (f"part-{FIRST}-00000.parquet", f".part-{FIRST}-00000.parquet.0123", "_SUCCESS", "notes.txt"):
        place.write(f"results/{name}", b"leftover")
    place.write(CSV, b"leftover")
    place.write("current.json", json.dumps({"run": FIRST, "results": [f"part-{FIRST}-00000.parquet"]}).encode())
    current = publish(place, states.runs[1])
    assert set(files(place, "results/")) == {
        f"results/part-{segment['id']}.parquet" for segment in read_segments(states.runs[1])
    }
    assert (current["state"], set(rows(place)["path"])) == (1, states.paths[1])
    assert place.read(CSV) == (states.runs[1] / args.CSV_FILE).read_bytes()


def test_merged_segments_leave_the_files_of_their_rows_on_a_day_that_adds_only(place: Place, tmp_path: Path) -> None:
    """Nobody sees a row twice: the merged segment has a file in results/ only when rows are replaced."""
    source = tmp_path / "source"
    first = write_run(source, 5, FIRST)
    merged = write_segment(source, f"{SECOND}-00112233-00000", 5, 0, rejects=1)
    merged["results"] = [name for segment in read_segments(first) for name in segment["results"]]
    new = write_segment(source, f"{SECOND}-00112233-00001", 2, 6)
    second = write_state(source, SECOND, [merged, new], work=2)
    upload(place, source)
    publish(place, first)
    before = files(place, "results/")
    current = publish(place, second)
    after = files(place, "results/")
    assert after.items() > before.items()
    assert after.keys() - before.keys() == {f"results/part-{new['id']}.parquet"}
    assert current["features"] == [f"segments/{each['id']}/features.parquet" for each in (merged, new)]
    frame = rows(place)
    assert frame["path"].is_unique
    assert len(frame) == current["images"] == 7
    place.delete(f"results/{merged['results'][0]}")
    place.delete("results.json")
    show_published(place.lake, place.conn)
    assert files(place, "results/") == after, "the segments that were merged are kept for their files"


def check_every_interruption(
    states: States, monkeypatch: pytest.MonkeyPatch, number: int, look: Callable[[], None]
) -> list[str]:
    """Kill the publication of a state at each moment, then repeat it; return the moments."""
    place, run = states.place, states.runs[number]
    states.reset(number)
    expected = states.shown()
    for moment in itertools.count():
        states.reset(number - 1)
        commit_run(place, run)
        steps = Steps(moment, kill, look)
        with observed(monkeypatch, publication, OPERATIONS, steps):
            try:
                show_published(place.lake, place.conn)
            except Killed:
                pass
            else:
                return steps.seen
        look()
        if "before" in steps.seen[-1] and "results.json" in steps.seen[-1]:
            assert states.shown().get("results.json") != expected["results.json"], "it is written last"
        show_published(place.lake, place.conn)
        assert states.shown() == expected, f"killed {steps.seen[-1]}: a repetition must complete it"
    raise AssertionError


def test_reader_of_the_folder_sees_the_old_rows_and_none_twice_on_a_day_that_adds_only(
    states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = states.paths[:2]

    def look() -> None:
        found = rows(states.place)["path"]
        assert found.is_unique
        assert old <= set(found) <= new

    seen = check_every_interruption(states, monkeypatch, 1, look)
    assert len([step for step in seen if "copy" in step]) == 2 * (1 + 2), "the CSV and two new segments"
    assert not [step for step in seen if "delete" in step]


def test_reader_of_the_folder_misses_no_row_when_rows_are_replaced(
    states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = states.paths[1:]

    def look() -> None:
        found = set(rows(states.place)["path"])
        assert old & new <= found <= old | new

    seen = check_every_interruption(states, monkeypatch, 2, look)
    assert len([step for step in seen if "copy" in step]) == 2 * (1 + 2)
    assert len([step for step in seen if "delete" in step]) == 2 * 2, "one segment was replaced, one is gone"
    assert {"before delete_file", "after delete_file"} <= {" ".join(step.split()[:2]) for step in seen}


def test_first_publication_is_repeated_after_each_interruption(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    check_every_interruption(states, monkeypatch, 0, lambda: None)


def test_late_process_of_an_older_state_leaves_none_of_its_files(
    states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was thought to be dead continues after the next run has published, at each moment."""
    place = states.place
    states.reset(2)
    expected = states.shown()
    for moment in itertools.count():
        states.reset(0)
        commit_run(place, states.runs[1])
        steps = Steps(moment, lambda: publish(place, states.runs[2]))
        with observed(monkeypatch, publication, OPERATIONS, steps):
            show_published(place.lake, place.conn)
        if moment >= len(steps.seen):
            break
        assert states.shown() == expected, f"the next run has published {steps.seen[moment]}"
    assert moment > 8


def test_refused_deletion_is_an_error_and_the_next_run_completes_it(
    states: States, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = states.place
    states.reset(2)
    expected = states.shown()
    states.reset(1)
    current = commit_run(place, states.runs[2])

    def refuse(path: Any) -> None:
        raise PermissionError(f"{path}: Access Denied")

    with monkeypatch.context() as patched:
        patched.setattr(publication, "delete_file", refuse)
        with pytest.raises(PermissionError, match="Access Denied"):
            show_published(place.lake, place.conn)
    assert json.loads(place.read("results.json"))["manifest"] != current["manifest"]
    show_published(place.lake, place.conn)
    assert states.shown() == expected


def test_file_that_another_process_deletes_first_is_no_error(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    states.reset(1)
    commit_run(states.place, states.runs[2])
    delete = publication.delete_file

    def delete_twice(path: Any) -> None:
        delete(path)
        delete(path)

    monkeypatch.setattr(publication, "delete_file", delete_twice)
    show_published(states.place.lake, states.place.conn)
    assert set(rows(states.place)["path"]) == states.paths[2]


def test_published_files_are_the_segments_files_without_a_copy(tmp_path: Path) -> None:
    """In a folder, both names are one file: results/ takes no space."""
    place = Folder(tmp_path / "lake")
    publish(place, write_run(place.root))
    for file in (place.root / "results").iterdir():
        segment = place.root / "segments" / segment_of(file.name) / "features.parquet"
        assert file.samefile(segment)
        assert not {b"org.apache.spark.sql.parquet.row.metadata", b"pandas"} & set(pq.read_schema(file).metadata or {})


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder of a published run, with the files that the next run reads."""
    run = tmp_path / "runs" / FIRST
    write_json(run / args.FEATURIZE_SUMMARY_FILE, {"model": {"digest": MODEL_DIGEST}})
    (run / args.PCA_MODEL_FILE).parent.mkdir()
    (run / args.PCA_MODEL_FILE).touch()
    write_json(tmp_path / "current.json", {"run": FIRST})
    return run


def previous(root: Path, slug: str = SECOND) -> Any:
    return find_previous(Lake(f"file://{root}"), slug, MODEL_DIGEST, None)


def test_a_run_is_compared_with_the_published_one_unless_it_is_itself_or_there_is_none(
    tmp_path: Path, published: Path
) -> None:
    model = f"file://{published / args.PCA_MODEL_FILE}"
    assert previous(tmp_path) == {"run": FIRST, "pca_model": model, "note": None}
    note = "this run itself was the published one"
    own = published / args.PCA_FIT_FILE
    own.parent.mkdir()
    own.touch()
    fitted = {"run": FIRST, "pca_model": f"file://{own}", "note": None}
    assert previous(tmp_path) == fitted, "a run that has kept a basis has a fit of its own"
    assert previous(tmp_path, FIRST) == {"run": None, "pca_model": None, "note": note}
    note = "no run had been published before"
    assert previous(tmp_path / "new") == {"run": None, "pca_model": None, "note": note}


def test_a_damaged_record_of_the_published_run_is_reported_and_stops_no_run(
    tmp_path: Path, published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = ['{"run": null}', '{"run": "../../etc"}', f'{{"run": "{FIRST}\\n"}}', '{"run": ["x"]}']
    for content in ["", "{", "[]", "{}", *damaged]:
        caplog.clear()
        (tmp_path / "current.json").write_text(content)
        found = previous(tmp_path)
        assert (found["run"], found["pca_model"]) == (None, None)
        assert found["note"].endswith("current.json did not name a run")
        [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert f"file://{tmp_path}/current.json does not name a run" in warning
        assert "until a run publishes" in warning


def test_a_published_run_that_cannot_be_compared_stops_no_run_and_the_note_says_why(
    tmp_path: Path, published: Path
) -> None:
    summary, model = published / args.FEATURIZE_SUMMARY_FILE, published / args.PCA_MODEL_FILE
    for record in ({}, {"model": "x"}, {"model": {}}, []):
        write_json(summary, record)
        assert "does not name its model" in previous(tmp_path)["note"]
    write_json(summary, {"model": {"digest": "cd" * 32}})  # it has 1280 features, too, with another meaning
    note = f"its features are from the model {'cd' * 8}, this run's from {'ab' * 8}"
    assert previous(tmp_path) == {"run": FIRST, "pca_model": None, "note": note}
    write_json(summary, {"model": {"digest": MODEL_DIGEST}})
    for path in (model, summary):
        path.unlink()
        found = previous(tmp_path)
        assert (found["run"], found["pca_model"]) == (FIRST, None)
        assert path.name in found["note"]
