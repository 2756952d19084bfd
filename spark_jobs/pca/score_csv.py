"""The scores as the notebook's one CSV file: text made part by part in the workers, put together as a stream."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.lake import storage

CSV_ROWS = 1024
"""Rows turned into text at once: 10 MB of floats where all 1280 components are kept."""

CHUNK_BYTES = 8 * 1024 * 1024
"""Bytes of text in the driver's memory at once."""


def write_part(scores: str, destination: str) -> int:
    """Write the lines of a file of scores, without a header, and return their number.

    They are the bytes of ``pandas.to_csv(index=False)``: a float is the shortest text that reads back as the same.

    Parameters
    ----------
    scores : str
        URI of the Parquet file.
    destination : str
        URI of the text; it is there once it is complete.
    """
    filesystem, path = storage.locate(scores)
    rows = 0
    with storage.writing(destination) as stream, pq.ParquetFile(path, filesystem=filesystem) as file:
        for batch in file.iter_batches(CSV_ROWS, columns=["label", "components"], use_threads=False):
            stream.write(_lines(batch).encode())
            rows += batch.num_rows
    return rows


def _lines(batch: pa.RecordBatch) -> str:
    components = batch.column("components")
    matrix = components.flatten().to_numpy().reshape(len(components), -1)
    labels = batch.column("label").to_pylist()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([*values, label] for values, label in zip(matrix.tolist(), labels, strict=True))
    return text.getvalue()


def assemble(parts: list[str], k: int, destination: str) -> None:
    """Put a header and the parts' text together to one file, some megabytes in memory at a time.

    A store gets it as a multipart upload, which is complete, and seen, at its end.

    Parameters
    ----------
    parts : list of str
        URIs of what :func:`write_part` has written, in order.
    k : int
        Number of components: columns ``F 1`` … ``F k``, and then ``label``.
    destination : str
        URI of the file; it is there once it is complete.
    """
    header = ",".join([*(f"F {number}" for number in range(1, k + 1)), "label"])
    with storage.writing(destination) as stream:
        stream.write(f"{header}\n".encode())
        for part in parts:
            filesystem, path = storage.locate(part)
            with filesystem.open_input_stream(path) as source:
                while chunk := source.read(CHUNK_BYTES):
                    stream.write(chunk)
