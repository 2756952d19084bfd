from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as dispatcher
from benchmarks import pipeline
from benchmarks.table import Bench, markdown


def test_columns_are_aligned() -> None:
    assert markdown(["side", "s"], [["ours", "6.5"], ["theirs", "101.0"]]) == [
        "| side   |     s |",
        "| ------ | ----: |",
        "| ours   |   6.5 |",
        "| theirs | 101.0 |",
    ]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells under a header of 2"):
        markdown(["side", "s"], [["ours"]])


class FakeTable:
    DESCRIPTION = "a table of a test"

    def __init__(self) -> None:
        self.bench: Bench | None = None

    def measure(self, bench: Bench) -> dict[str, Any]:
        self.bench = bench
        return {"seconds": 1.5}

    def lines(self, result: dict[str, Any]) -> list[str]:
        return markdown(["side", "s"], [["ours", str(result["seconds"])]])


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTable:
    fake = FakeTable()
    weights = ("file:///w/weights.h5", tmp_path / "weights.h5")
    monkeypatch.setattr(dispatcher, "load", lambda name: fake)
    monkeypatch.setattr(dispatcher, "choose_images", lambda requested, work: (requested, 7))
    monkeypatch.setattr(dispatcher, "choose_weights", lambda work: weights)
    monkeypatch.setattr(pipeline, "export_model", lambda name, work: tmp_path / "model")
    monkeypatch.setattr(pipeline, "write_code", lambda work: None)
    return fake


def test_each_table_is_measured_shown_and_written(
    table: FakeTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--images={tmp_path}", f"--output-dir={tmp_path / 'out'}", "--laps=2", "--sizes=96,48", "rivals"]
    assert dispatcher.main(arguments) == 0
    assert table.bench is not None
    assert (table.bench.count, table.bench.laps, table.bench.sizes) == (7, 2, (48, 96))
    (file,) = (tmp_path / "out").iterdir()
    record = json.loads(file.read_text())
    assert file.name == f"{record['date'][:10]}-rivals.json"
    assert record["result"] == {"seconds": 1.5}
    assert record["command"].endswith("--sizes=96,48 rivals")
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["pyspark"]
    assert "| ours | 1.5 |" in capsys.readouterr().out


def test_all_tables_are_measured_by_default(table: FakeTable, tmp_path: Path) -> None:
    dispatcher.main([f"--images={tmp_path}", f"--output-dir={tmp_path / 'out'}"])
    names = {json.loads(file.read_text())["table"] for file in (tmp_path / "out").iterdir()}
    assert names == set(dispatcher.TABLES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["speed"], "unknown table 'speed'"),
        (["--laps=0"], "'0' is not a number of 1 or more"),
        (["--sizes=64,"], "is not a number of 1 or more"),
        (["--sizes=0"], "is not a number of 1 or more"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        dispatcher.parse(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_each_table_has_the_interface() -> None:
    for name in dispatcher.TABLES:
        module = dispatcher.load(name)
        assert module.DESCRIPTION, name
        assert callable(module.measure), name
        assert callable(module.lines), name
