"""Reports, lists, rejects, scores and logs: served as they are in the lake."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path
from typing import Any

import pytest

from spark_jobs.lake import schemas
from tests.include.hostile_names import HOSTILE
from tests.include.pages.conftest import SLUG, Browser, write_file

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("lake")
def test_report_is_shown_as_written_and_a_missing_one_is_not_found(user: Browser) -> None:
    response = user.get(f"/{SLUG}")
    assert (response.status_code, response.headers["location"]) == (307, f"{SLUG}/report.html")
    response = user.get(f"/{SLUG}/report.html")
    assert response.text == f"<h1>é {SLUG}</h1>"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    response = user.get("/20990101T000000Z-00000000/report.html")
    assert response.status_code == 404
    assert "20990101T000000Z-00000000 has no report" in response.json()["detail"]


def test_lists_and_scores_are_downloads_of_any_size(user: Browser, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from include.pages import files

    monkeypatch.setattr(files, "BLOCK_BYTES", 7)
    text = "path,label\né,<b>\n" * 9
    for address, place in (
        ("pca/insights/outliers.csv", "pca/insights/outliers.csv"),
        ("pca_features.csv", "pca/pca_features.csv"),
    ):
        assert user.get(f"/{SLUG}/{address}").status_code == 404
        write_file(lake / "runs" / SLUG / place, text)
        response = user.get(f"/{SLUG}/{address}")
        assert response.text == text
        assert response.headers["content-length"] == str(len(text.encode()))
        assert response.headers["content-type"] == "text/csv; charset=utf-8"
        assert response.headers["content-disposition"].startswith("attachment")
    assert "one of the last 7 published states" in user.get(f"/{SLUG}/rejects.csv").json()["detail"]


def test_rejects_are_those_of_all_segments_of_the_state(user: Browser, lake: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from include.lake.objects import LakePath, write_json
    from tests.include.run_records import segment_record

    segments = [segment_record("a-1"), segment_record("b-2", rejects=0), segment_record("c-3")]
    record = {"folder": "file:///elsewhere", "segments": segments}
    write_json(LakePath(f"file://{lake}/runs/{SLUG}/segments.json"), record)
    expected = [["path", "label", "reason", "detail"]]
    for number, segment in enumerate(("a-1", "c-3")):
        names = [f"{number}{name}" for name in HOSTILE]
        columns = {
            field.name: names if pa.types.is_string(field.type) else [0] * len(names) for field in schemas.REJECTS
        }
        table = pa.table(columns, schema=schemas.REJECTS)
        (lake / "segments" / segment).mkdir(parents=True)
        pq.write_table(table, lake / "segments" / segment / "rejects.parquet")
        expected += [[name] * 4 for name in names]
    response = user.get(f"/{SLUG}/rejects.csv")
    assert list(csv.reader(io.StringIO(response.text))) == expected
    assert response.headers["content-disposition"] == f'attachment; filename="rejects-{SLUG}.csv"'


def test_logs_of_a_step_are_shown_as_text(user: Browser, lake: Path) -> None:
    folder = lake / "logs" / "j-1" / "steps" / "s-1"
    folder.mkdir(parents=True)
    (folder / "stdout.gz").write_bytes(gzip.compress("progress é <b>\n".encode()))
    response = user.get("/logs/j-1/s-1")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert f"==== file://{folder}/stdout.gz\nprogress é <b>" in response.text
    assert f"==== file://{folder}/stderr.gz\n(not there: EMR writes a log minutes after its step" in response.text


def test_logs_of_a_step_are_read_where_fruits_logs_points_and_else_in_the_lake(
    user: Browser, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = tmp_path / "elsewhere"
    monkeypatch.setenv("FRUITS_LOGS", f"file://{logs}")
    in_lake, elsewhere = lake / "logs" / "j-1" / "steps" / "s-1", logs / "j-1" / "steps" / "s-1"
    for folder, name in ((in_lake, "stdout"), (elsewhere, "stderr")):
        folder.mkdir(parents=True)
        (folder / f"{name}.gz").write_bytes(gzip.compress(f"text of {name}\n".encode()))
    text = user.get("/logs/j-1/s-1").text
    assert f"==== file://{elsewhere}/stderr.gz\ntext of stderr" in text
    assert f"==== file://{in_lake}/stdout.gz\ntext of stdout" in text, "from before FRUITS_LOGS was set"
    for missing in (elsewhere, in_lake):
        assert f"==== file://{missing}/stdout.gz\n(not there" in user.get("/logs/j-1/s-2").text.replace("s-2", "s-1")


def test_log_that_cannot_be_read_is_named_with_the_reason(
    user: Browser, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str, *_: Any) -> str:
        raise PermissionError(f"AccessDenied: {uri}")

    monkeypatch.setattr(sys.modules["include.pages.app"], "read_log_tail", refuse)
    response = user.get("/logs/j-1/s-1")
    assert response.status_code == 200
    assert (
        f"file://{lake}/logs/j-1/steps/s-1/stdout.gz\n(cannot be read: PermissionError: AccessDenied" in response.text
    )
