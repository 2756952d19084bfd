"""The scores as one CSV file, as in the notebook: workers format the parts, the driver concatenates them."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.lake import storage

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


def assemble(parts: list[str], k: int, destination: str) -> None:
    """Concatenate a header and the parts' texts into one file, some megabytes in memory at a time.

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
        stream.write(f"{header}\n".encode())
        for part in parts:
            with storage.open_file(part) as source:
                while chunk := source.read(CHUNK_BYTES):
                    stream.write(chunk)
