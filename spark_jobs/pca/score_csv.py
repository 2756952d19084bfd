"""The scores as one CSV file, as in the notebook: workers format and check the parts, the driver concatenates them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from spark_jobs.errors import JobError
from spark_jobs.lake import row_groups, storage

CSV_ROWS = 1024
"""Rows formatted at a time: 10 MB of floats if all 1280 components are kept."""

CHUNK_BYTES = 8 * 1024 * 1024
"""Bytes of text in the driver's memory at a time."""

_QUOTED = re.compile('[",\x00-\x1f\x7f-\x9f\u2028\u2029]')
"""Characters that put a label into quotes: the CSV's own, control characters, and Unicode's two line separators."""


def write_part(scores: str, destination: str) -> int:
    """Write one file of scores as CSV lines without a header, and return the number of lines.

    The bytes equal those of ``pandas.to_csv(index=False)``, except that every label with a control character is in
    quotes. Each float is the shortest text that parses to the same value.

    Parameters
    ----------
    scores : str
        URI of the Parquet file.
    destination : str
        URI of the text; the file appears when it is complete.
    """
    rows = 0
    with storage.open_file(scores) as source, storage.writing(destination) as stream, pq.ParquetFile(source) as file:
        for batch in file.iter_batches(CSV_ROWS, columns=["label", "components"], use_threads=False):
            stream.write(_lines(batch).encode())
            rows += batch.num_rows
    return rows


def check_part(scores: str, text: str) -> None:
    """Parse the lines of a part with another library, and compare them with the scores, bit for bit.

    Parameters
    ----------
    scores : str
        URI of the Parquet file.
    text : str
        URI of the text that :func:`write_part` wrote.

    Raises
    ------
    JobError
        If they differ, or if the text is not CSV; the message names the part.
    """
    with storage.open_file(scores) as source, pq.ParquetFile(source) as file:
        expected = row_groups.regroup(file.iter_batches(columns=["label", "components"], use_threads=False), CSV_ROWS)
        first = next(expected, None)
        if first is None:
            return
        names = [*(f"F {number}" for number in range(1, len(first.column("components")[0]) + 1)), "label"]
        found = row_groups.regroup(_parse(text, names), CSV_ROWS)
        for number, (lines, batch) in enumerate(itertools.zip_longest(found, itertools.chain([first], expected))):
            if lines is None or batch is None or not _is_equal(lines, batch):
                rows = f"{number * CSV_ROWS + 1} to {(number + 1) * CSV_ROWS}"
                raise JobError(f"{text} differs from {scores} in the rows {rows}: run the job again and report it")


def _parse(text: str, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the lines of a CSV file without a header; a value such as ``NaN`` is null.

    Raises
    ------
    JobError
        If a line has another number of fields, or a value is no number.
    """
    types = dict.fromkeys(names[:-1], pa.float64()) | {names[-1]: pa.string()}
    try:
        with storage.open_file(text) as stream:
            yield from pa_csv.open_csv(
                stream,
                pa_csv.ReadOptions(column_names=names, use_threads=False),
                pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
                pa_csv.ConvertOptions(column_types=types),
            )
    except pa.ArrowInvalid as error:
        raise JobError(f"{text} cannot be parsed ({error}): run the job again and report it") from error


def _is_equal(lines: pa.RecordBatch, batch: pa.RecordBatch) -> bool:
    """Return whether lines of the CSV have the labels and, bit for bit, the floats of a batch of scores."""
    if lines.num_rows != batch.num_rows or not lines.column("label").equals(batch.column("label")):
        return False
    columns = [column.to_numpy(zero_copy_only=False) for column in lines.columns[:-1]]
    expected = batch.column("components").flatten().to_numpy()
    return bool(np.array_equal(np.column_stack(columns).ravel().view(np.int64), expected.view(np.int64)))


def _lines(batch: pa.RecordBatch) -> str:
    components = batch.column("components")
    matrix = components.flatten().to_numpy().reshape(len(components), -1)
    labels = batch.column("label").to_pylist()
    rows = zip(matrix.tolist(), labels, strict=True)
    return "".join(f"{','.join(map(repr, values))},{quote(label)}\n" for values, label in rows)


def quote(label: str) -> str:
    """Return a label as a field of a CSV file (RFC 4180).

    Python's csv module is not used: before 3.11.9, it leaves a carriage return without quotes, so that readers see the
    end of the line.
    """
    return '"' + label.replace('"', '""') + '"' if _QUOTED.search(label) else label


def assemble(parts: list[str], k: int, destination: str) -> int:
    """Concatenate a header and the parts' texts into one file, some megabytes in memory at a time; return its bytes.

    Parameters
    ----------
    parts : list of str
        URIs of the texts that :func:`write_part` wrote, in order.
    k : int
        Number of components: columns ``F 1`` … ``F k``, and then ``label``.
    destination : str
        URI of the file; it appears when it is complete.
    """
    header = ",".join([*(f"F {number}" for number in range(1, k + 1)), "label"])
    with storage.writing(destination) as stream:
        written = stream.write(f"{header}\n".encode())
        for part in parts:
            with storage.open_file(part) as source:
                while chunk := source.read(CHUNK_BYTES):
                    written += stream.write(chunk)
    return written
