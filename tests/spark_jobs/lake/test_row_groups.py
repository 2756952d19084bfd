from __future__ import annotations

import itertools

import pyarrow as pa

from spark_jobs.lake.row_groups import regroup


def batch(numbers: range) -> pa.RecordBatch:
    columns = [pa.array(list(numbers), pa.int64()), pa.array([str(number) for number in numbers], pa.string())]
    return pa.record_batch(columns, ["number", "text"])


def test_rows_keep_their_order_and_every_batch_but_the_last_is_full() -> None:
    cuts = ([0, 20], [0, 1, 2, 3, 20], [0, 5, 5, 19, 20], [0, 8, 16, 20], [0, 7, 20])
    for borders, rows in itertools.product(cuts, (1, 4, 8, 20, 100)):
        given = [batch(range(start, stop)) for start, stop in itertools.pairwise(borders)]
        found = list(regroup(given, rows))
        assert [each.num_rows for each in found] == [rows] * (20 // rows) + ([20 % rows] if 20 % rows else [])
        assert pa.Table.from_batches(found).equals(pa.Table.from_batches([batch(range(20))]))


def test_nothing_stays_nothing() -> None:
    assert list(regroup([], 3)) == []
    assert list(regroup([batch(range(0))], 3)) == []
