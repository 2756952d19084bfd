from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.lake import schemas
from spark_jobs.lake.schemas import SCORES
from spark_jobs.pca import score_csv
from tests.spark_jobs.feature_runs import path_of

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
