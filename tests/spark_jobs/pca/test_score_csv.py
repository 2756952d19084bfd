from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.errors import JobError
from spark_jobs.lake import schemas
from spark_jobs.lake.schemas import SCORES
from spark_jobs.pca import job, score_csv
from tests.spark_jobs.feature_runs import path_of
from tests.spark_jobs.in_process import Here

LABELS = ["Apple 1", "comma, label", 'a "quoted" one', "Pêche à l'eau", "50 % #1+", "two\nlines", "", "NaN", " x "]

BREAKING_LABELS = [
    "in the mid\rdle",
    "at the end\r",
    "\rat the start",
    "Windows\r\nlines",
    "two\nlines\n",
    "a tab\t, a bell\x07 and a \x7f",
    "\x85 \u2028 \u2029",
    'every "kind",\r of\n it"',
    "  spaces around  ",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "",
]
"""Labels that a reader of the CSV may misunderstand."""


def write_scores(folder: Path, values: np.ndarray, labels: list[str], rows_a_file: int) -> list[str]:
    """Write scores in files of some rows each, and return their URIs."""
    folder.mkdir()
    table = pa.table([[path_of(row) for row in range(len(values))], labels, values.tolist()], schema=SCORES)
    files = []
    for number, start in enumerate(range(0, len(values), rows_a_file)):
        files.append(folder / schemas.FILE_NAME.format(number))
        pq.write_table(table.slice(start, rows_a_file), files[-1])
    return [file.as_uri() for file in files]


def texts_of(sources: list[str], folder: Path) -> list[str]:
    targets = [(folder / f"part-{number}.csv").as_uri() for number in range(len(sources))]
    for source, target in zip(sources, targets, strict=True):
        score_csv.write_part(source, target)
    return targets


@pytest.mark.parametrize(("csv_rows", "chunk_bytes"), [(1, 1), (4, 100), (1000, 2**20)])
def test_the_csv_has_the_bytes_of_pandas(
    tmp_path: Path, csv_rows: int, chunk_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(6)
    values = random.normal(size=(36, 3)) * 10.0 ** random.integers(-20, 20, size=(36, 3))
    values[0] = [0.0, -0.0, 1e16]
    values[1] = [1e-5, 123456789012345680.0, 5e-324]
    values[2] = [0.1, 1 / 3, 1.7976931348623157e308]
    labels = LABELS * 4
    monkeypatch.setattr(score_csv, "CSV_ROWS", csv_rows)
    monkeypatch.setattr(score_csv, "CHUNK_BYTES", chunk_bytes)
    sources = write_scores(tmp_path / "scores", values, labels, rows_a_file=5)
    file = tmp_path / "pca_features.csv"
    score_csv.assemble(texts_of(sources, tmp_path), 3, file.as_uri())
    frame = pd.DataFrame(values, columns=["F 1", "F 2", "F 3"]).assign(label=labels)
    reference = tmp_path / "reference.csv"
    frame.to_csv(reference, index=False)
    assert file.read_bytes() == reference.read_bytes()
    back = pd.read_csv(file, keep_default_na=False, float_precision="round_trip")
    pd.testing.assert_frame_equal(back, frame)


def test_a_part_reports_its_rows_and_has_no_header(tmp_path: Path) -> None:
    (source,) = write_scores(tmp_path / "scores", np.array([[0.5, 1.0], [2.0, 3.0]]), ["a", "b"], rows_a_file=2)
    assert score_csv.write_part(source, (tmp_path / "text").as_uri()) == 2
    assert (tmp_path / "text").read_text() == "0.5,1.0,a\n2.0,3.0,b\n"


def test_a_failure_leaves_the_csv_as_it_was(tmp_path: Path) -> None:
    texts = texts_of(write_scores(tmp_path / "scores", np.ones((9, 2)), LABELS, rows_a_file=3), tmp_path)
    file = tmp_path / "out" / "pca_features.csv"
    file.parent.mkdir()
    file.write_text("old")
    with pytest.raises(FileNotFoundError):
        score_csv.assemble([*texts, (tmp_path / "nowhere").as_uri()], 2, file.as_uri())
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_a_damaged_file_of_scores_leaves_no_text(tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_bytes(b"not Parquet")
    with pytest.raises(pa.ArrowInvalid):
        score_csv.write_part((tmp_path / "part-00000.parquet").as_uri(), (tmp_path / "out" / "x.csv").as_uri())
    assert list((tmp_path / "out").iterdir()) == []


def write_csv(folder: Path, labels: list[str]) -> Path:
    """Write a CSV of one component for these labels."""
    sources = write_scores(folder / "scores", np.arange(len(labels), dtype=float).reshape(-1, 1), labels, rows_a_file=4)
    file = folder / "pca_features.csv"
    score_csv.assemble(texts_of(sources, folder), 1, file.as_uri())
    return file


def test_a_carriage_return_or_any_control_character_in_a_label_does_not_break_the_csv(tmp_path: Path) -> None:
    """Python's csv module left a carriage return without quotes before 3.11.9."""
    file = write_csv(tmp_path, BREAKING_LABELS)
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    assert rows == [["F 1", "label"], *([str(float(row)), label] for row, label in enumerate(BREAKING_LABELS))]
    assert pd.read_csv(file, keep_default_na=False, dtype={"label": str})["label"].tolist() == BREAKING_LABELS
    fields = [score_csv.quote(label) for label in BREAKING_LABELS]
    assert [field for field in fields if not field.isprintable() and not field.startswith('"')] == []
    assert score_csv.quote("=1+1") == "=1+1", "a label is never changed, also if a spreadsheet reads it as a formula"


def test_the_csv_module_of_the_systems_python_reads_every_label(tmp_path: Path) -> None:
    """Debian 12 has Python 3.11.2, whose csv module would not have written this file correctly."""
    file = write_csv(tmp_path, BREAKING_LABELS)
    program = (
        "import csv, json, sys\n"
        "with open(sys.argv[1], encoding='utf-8', newline='') as stream:\n"
        "    print(json.dumps([row[-1] for row in csv.reader(stream)]))"
    )
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    done = subprocess.run([python, "-I", "-c", program, file], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["label", *BREAKING_LABELS]


LABELS_TO_CHECK = [
    *LABELS,
    *BREAKING_LABELS,
    "NA",
    "N/A",
    "null",
    "None",
    "007",
    "1e5",
    "true",
    "two\n\nlines",
    '"',
    '""',
    "\\",
    ",",
]


def scores_of(number: int) -> np.ndarray:
    """Scores whose last bit matters, with a zero of each sign and the smallest and the largest float."""
    values = np.random.default_rng(7).normal(size=(number, 3)) / 3
    values[0] = [0.0, -0.0, 5e-324]
    values[1] = [1.7976931348623157e308, -1 / 3, 0.1]
    return values


@pytest.fixture
def part(tmp_path: Path) -> tuple[str, Path]:
    """The scores of images with each of the labels, and their text."""
    values = scores_of(len(LABELS_TO_CHECK))
    (source,) = write_scores(tmp_path / "scores", values, LABELS_TO_CHECK, rows_a_file=len(values))
    (text,) = texts_of([source], tmp_path)
    return source, Path(text.removeprefix("file://"))


@pytest.mark.parametrize("csv_rows", [1, 4, 1000])
def test_a_text_with_any_labels_is_accepted(
    part: tuple[str, Path], csv_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_csv, "CSV_ROWS", csv_rows)
    source, text = part
    score_csv.check_part(source, f"file://{text}")


def test_a_text_of_several_blocks_is_accepted(tmp_path: Path) -> None:
    """pyarrow parses a MB at a time."""
    rows = 25_000
    labels = [LABELS_TO_CHECK[row % len(LABELS_TO_CHECK)] for row in range(rows)]
    (source,) = write_scores(tmp_path / "scores", scores_of(rows), labels, rows_a_file=rows)
    (text,) = texts_of([source], tmp_path)
    assert Path(text.removeprefix("file://")).stat().st_size > 1_300_000
    score_csv.check_part(source, text)


def replace_first(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


SECOND = "1.7976931348623157e+308,-0.3333333333333333,0.1,"

DAMAGES: dict[str, Callable[[str], str]] = {
    "the last bit of a value": replace_first(SECOND, SECOND.replace("-0.3333333333333333", "-0.33333333333333337")),
    "a digit too few": replace_first(SECOND, SECOND.replace("-0.3333333333333333", "-0.333333333333333")),
    "the sign of a zero": replace_first("0.0,-0.0,5e-324", "0.0,0.0,5e-324"),
    "a denormal that is rounded to zero": replace_first("5e-324", "0.0"),
    "NaN": replace_first(SECOND, SECOND.replace("0.1,", "NaN,")),
    "infinity": replace_first(SECOND, SECOND.replace("1.7976931348623157e+308", "inf")),
    "a value that is missing": replace_first(SECOND, SECOND.replace("0.1,", ",")),
    "a value that is no number": replace_first(SECOND, SECOND.replace("0.1,", "0.1x,")),
    "another label": replace_first("Apple 1", "Apple 2"),
    "a label without its spaces": replace_first("  spaces around  ", "spaces around"),
    "a label for an empty one": replace_first(",NaN\n", ",\n"),
    "two labels in the wrong order": lambda text: (
        text.replace(",NaN\n", ",#\n").replace(",null\n", ",NaN\n").replace(",#\n", ",null\n")
    ),
    "a carriage return that became a line feed": replace_first("mid\rdle", "mid\ndle"),
    "Windows' ends of lines": lambda text: text.replace("\n", "\r\n"),
    "a missing line at the end": lambda text: text[: text.rindex("\n", 0, -1) + 1],
    "a missing line at the start": lambda text: text[text.index("\n") + 1 :],
    "a line twice": lambda text: text[: text.index("\n") + 1] + text,
    "another line at the end": lambda text: text + "0.0,0.0,0.0,more\n",
    "an empty line": lambda text: text + "\n",
    "a field too many": replace_first(SECOND, SECOND + "1.0,"),
    "a field too few": replace_first(SECOND, SECOND.replace("0.1,", "")),
    "a header": lambda text: "F 1,F 2,F 3,label\n" + text,
    "half of a line": lambda text: text[:-9],
    "nothing": lambda _: "",
    "a quote that does not end": replace_first('"comma, label"', '"comma, label'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_text_that_differs_is_refused(part: tuple[str, Path], damage: str) -> None:
    source, text = part
    whole = text.read_bytes().decode()
    damaged = DAMAGES[damage](whole)
    assert damaged != whole
    text.write_bytes(damaged.encode())
    with pytest.raises(JobError, match=r"part-0\.csv (differs from file://.*part-00000\.parquet|cannot be parsed)"):
        score_csv.check_part(source, f"file://{text}")


def test_a_text_that_is_not_utf_8_is_refused(part: tuple[str, Path]) -> None:
    source, text = part
    text.write_bytes(text.read_bytes().replace("Pêche".encode(), b"P\xeache", 1))
    with pytest.raises(JobError, match="cannot be parsed"):
        score_csv.check_part(source, f"file://{text}")


def test_the_worker_that_wrote_a_text_checks_it_and_a_wrong_one_makes_no_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = f"file://{tmp_path}/run"
    (tmp_path / "run" / "pca").mkdir(parents=True)
    write_scores(
        tmp_path / "run" / "pca" / "scores", scores_of(30), [f"label {row}" for row in range(30)], rows_a_file=8
    )
    written = job.write_csv(Here(), run, 4, 3)  # type: ignore[arg-type]
    csv_file = tmp_path / "run" / "pca" / "pca_features.csv"
    assert written == {"rows": 30, "columns": 4, "bytes": csv_file.stat().st_size}
    assert not (tmp_path / "run" / "pca" / "csv").exists()
    csv_file.unlink()

    write_part = score_csv.write_part

    def write_wrong(scores: str, destination: str) -> int:
        rows = write_part(scores, destination)
        if scores.endswith("part-00002.parquet"):
            text = Path(destination.removeprefix("file://"))
            text.write_text(text.read_text().replace("label 17", "label 18", 1))
        return rows

    monkeypatch.setattr(score_csv, "write_part", write_wrong)
    with pytest.raises(
        JobError, match=r"pca/csv/part-00002\.csv differs from .*part-00002\.parquet in the rows 1 to 1024"
    ):
        job.write_csv(Here(), run, 4, 3)  # type: ignore[arg-type]
    assert not csv_file.exists()
