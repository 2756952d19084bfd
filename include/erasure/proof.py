"""Proves an erasure: reads everything in a lake, old versions included, and looks for what the receipt says is gone.

``python -m include.erasure.proof RECEIPT`` is a program of its own. It shares with the erasure only the access to the
store and the keyed hash, so that a mistake in the search of the erasure cannot hide in its proof. It knows no name: it
hashes every text, path, row and vector that it meets, and compares the hashes with those of the receipt.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import html
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from include.lake.buckets import file_client
from include.records import Receipt
from spark_jobs.keyed_hash import keyed_hash

MODELS_AND_CODE = ("code/", "models/", "wheels/", "prices/", "security/")
"""Folders with nothing that is made from photos: their names are checked, their content is not."""

LABELS = ("label", "labels", "looks_like", "lost_labels")
"""The keys and columns whose texts are labels."""

ENDS = re.compile(r"""[\s"'<>,;:()\[\]{}\\]|$""")
"""Where a path in a text may end."""

STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
"""A string of JSON."""


class Item(NamedTuple):
    """A version of a file: its path in the lake, and on S3 its version."""

    path: str
    version: str | None
    is_current: bool
    has_content: bool

    def __str__(self) -> str:
        return self.path if self.is_current else f"{self.path} (old version {self.version})"


class Store:
    """Everything in a lake, as the store lists it.

    Parameters
    ----------
    root : str
        URI of the lake.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._folder = Path(root.removeprefix("file://"))
        self._bucket, _, prefix = root.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._client: Any = file_client(None) if root.startswith("s3://") else None

    def items(self) -> Iterator[Item]:
        """Yield all versions of all files."""
        if self._client is None:
            for path in sorted(self._folder.rglob("*")):
                if not path.is_dir():
                    yield Item(path.relative_to(self._folder).as_posix(), None, True, True)
            return
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for kind in ("Versions", "DeleteMarkers"):
                for entry in page.get(kind, []):
                    path = entry["Key"].removeprefix(self._prefix)
                    yield Item(path, entry["VersionId"], entry["IsLatest"], kind == "Versions")

    def read(self, item: Item) -> bytes:
        """Return the bytes of a version."""
        if self._client is None:
            return (self._folder / item.path).read_bytes()
        key = self._prefix + item.path
        answer = self._client.get_object(Bucket=self._bucket, Key=key, VersionId=item.version)
        return bytes(answer["Body"].read())

    def read_current(self, path: str) -> bytes:
        """Return the bytes of a file."""
        if self._client is None:
            return (self._folder / path).read_bytes()
        return bytes(self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)["Body"].read())


@dataclass
class Proof:
    """What was read and found.

    Attributes
    ----------
    files, old_versions, rows, vectors, texts : int
        What was compared: current files, old versions and markers, rows of tables, vectors, texts.
    found : list of str
        What should be gone.
    declared : list of str
        What was found where the receipt says that it remains.
    copies : list of str
        Rows of photos that have the same bytes as an erased photo, under a path that was not named.
    """

    files: int = 0
    old_versions: int = 0
    rows: int = 0
    vectors: int = 0
    texts: int = 0
    found: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)


class Prover:
    """Compares everything in a lake with a receipt.

    Parameters
    ----------
    store : Store
        The lake.
    receipt : Receipt
        The receipt.
    key : bytes
        Key of its hashes.
    """

    def __init__(self, store: Store, receipt: Receipt, key: bytes) -> None:
        self._store, self._receipt, self._key = store, receipt, key
        self._paths, self._vectors = frozenset(receipt["photos"]), frozenset(receipt["vectors"])
        self._labels = frozenset(receipt["requested"]["labels"])
        self._contents, self._thumbnails = frozenset(receipt["contents"]), frozenset(receipt["thumbnails"])
        self._keeps_photos = receipt["keeps_photos"]
        self._folders: list[str] = []
        self._files: frozenset[str] = frozenset()
        self._photos: tuple[str, ...] = ()
        self._proof = Proof()

    def run(self) -> Proof:
        """Read the whole lake."""
        items = list(self._store.items())
        self._files = frozenset(item.path for item in items if item.is_current and item.has_content)
        self._folders = sorted({item.path.partition("/")[0] for item in items if "/" in item.path})
        derived = ("segments/", "runs/", "manifests/", "reports/", "results/", "results_csv/")
        photos = self._photos = tuple(
            place for place in self._receipt["searched"] if place.endswith("/") and place not in derived
        )
        for item in items:
            self._proof.files += item.is_current and item.has_content
            self._proof.old_versions += not (item.is_current and item.has_content)
            is_photo = item.path.startswith(photos) and not item.path.endswith(".json")
            self._check_name(item, is_photo=is_photo)
            if item.has_content and not is_photo and not item.path.startswith(MODELS_AND_CODE):
                self._check_content(item)
        return self._proof

    def _check_name(self, item: Item, *, is_photo: bool) -> None:
        self._check_text(item, item.path, "its name")
        if is_photo and self._labels:
            for folder in item.path.split("/")[-2:-1]:
                self._check_label(item, folder)

    def _check_content(self, item: Item) -> None:
        try:
            data = self._store.read(item)
        except FileNotFoundError:  # a run that is in progress has deleted it
            return
        name = item.path
        if name.endswith(".gz"):
            data, name = gzip.decompress(data), name.removesuffix(".gz")
        if data[:4] == b"PAR1":
            self._check_parquet(item, data)
        elif name.endswith(".json"):
            self._check_json(item, data)
        elif name.endswith(".csv"):
            self._check_csv(item, data)
        elif data[:2] == b"PK":
            self._check_arrays(item, data)
        else:
            self._check_page(item, data)

    def _check_parquet(self, item: Item, data: bytes) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(io.BytesIO(data))
        except pa.ArrowInvalid:  # a killed writer has left it
            self._check_page(item, data)
            return
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            self._proof.rows += table.num_rows
            lists = [each.name for each in table.schema if _is_vector(each.type)]
            paths = table.column("path").to_pylist() if "path" in table.column_names else [None] * table.num_rows
            for each in table.schema:
                column = table.column(each.name)
                if pa.types.is_string(each.type):
                    self._check_column(item, each.name, column.unique().to_pylist(), has_vectors=bool(lists))
                elif each.name in lists:
                    for path, vector in zip(paths, column, strict=True):
                        if vector.is_valid:
                            self._check_vector(item, vector.values.to_numpy(zero_copy_only=False), path)

    def _check_column(self, item: Item, name: str, texts: Iterable[str | None], *, has_vectors: bool) -> None:
        for text in texts:
            if text is not None:
                self._check_text(item, text, f"a row, column {name}", may_be_kept=not has_vectors)
                if name == "label":
                    self._check_label(item, text, may_be_kept=not has_vectors)

    def _check_label(self, item: Item, text: str, *, may_be_kept: bool = True) -> None:
        if self._labels and not (self._keeps_photos and may_be_kept) and self._hash(text.encode()) in self._labels:
            self._report(item, "an erased label")

    def _check_vector(self, item: Item, vector: Any, path: str | None) -> None:
        self._proof.vectors += 1
        if self._hash(vector.tobytes()) not in self._vectors:
            return
        if path is not None and self._is_copy(path):
            self._proof.copies.append(f"{item}: {path}")
        else:
            self._report(item, "a vector")

    def _is_copy(self, path: str) -> bool:
        """Return whether another photo with the same bytes is there under a path that the receipt does not name."""
        relative = path.removeprefix(f"{self._store.root}/")
        if self._hash(relative.encode()) in self._paths:
            return False
        try:
            return self._hash(self._store.read_current(relative)) in self._contents
        except Exception:  # of any store: a photo that cannot be read proves nothing
            return False

    def _check_json(self, item: Item, data: bytes) -> None:
        try:
            record = json.loads(data)
        except ValueError:
            self._check_page(item, data)
            return
        texts = list(_texts(record))
        for key, text in texts:
            self._check_text(item, text, "a text")
            if key in LABELS:
                self._check_label(item, text)
        self._check_thumbnails(item, [text for _, text in texts])

    def _check_csv(self, item: Item, data: bytes) -> None:
        import numpy as np

        labels: list[int] = []
        for number, row in enumerate(csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""))):
            self._proof.rows += 1
            if number == 0:
                labels = [place for place, name in enumerate(row) if name in LABELS]
            for text in (row[place] for place in labels if place < len(row)):
                self._check_label(item, text)
            try:
                vector = np.array([float(text) for text in row[:-1]])
            except ValueError:  # a header, or a list of photos
                for text in row:
                    self._check_text(item, text, "a row")
                continue
            self._check_vector(item, vector, None)

    def _check_arrays(self, item: Item, data: bytes) -> None:
        import numpy as np

        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = [file[name] for name in file.files]
        except Exception:  # another kind of archive
            return
        for array in arrays:
            if array.dtype.kind != "f" or not array.ndim:
                continue
            for row in array.reshape(-1, array.shape[-1]):
                for kind in (np.float32, np.float64):
                    self._check_vector(item, row.astype(kind), None)

    def _check_page(self, item: Item, data: bytes) -> None:
        text = html.unescape(data.decode("utf-8", "replace"))
        for each in {text, unquote(text)}:
            self._check_text(item, each, "a text")
        strings = list(_strings(text))  # the data of a page with a script
        for each in strings:
            self._check_text(item, each, "a text")
        self._check_thumbnails(item, strings)

    def _check_thumbnails(self, item: Item, texts: Iterable[str]) -> None:
        """Look for thumbnails; a file may show those of photos with the same bytes under paths that stay."""
        texts = list(texts)
        if not any(self._hash(text.encode()) in self._thumbnails for text in texts):
            return
        root = f"{self._store.root}/"
        named = {folder + text.removeprefix(root) for folder in ("", *self._photos) for text in texts}
        copies = [path for path in sorted(named & self._files) if self._is_copy(path)]
        if copies:
            self._proof.copies.append(f"{item}: a thumbnail, as of {copies[0]}")
        else:
            self._report(item, "a thumbnail")

    def _check_text(self, item: Item, text: str, what: str, *, may_be_kept: bool = True) -> None:
        """Look for a path. If the photos are kept, their names may be anywhere but in a row with a vector."""
        self._proof.texts += 1
        if self._keeps_photos and may_be_kept:
            return
        for candidate in self._candidates(text):
            if self._hash(candidate.encode()) in self._paths:
                self._report(item, f"a path in {what}")
                return

    def _candidates(self, text: str) -> Iterator[str]:
        """Yield all parts of a text that may be the path of a photo relative to the lake's root."""
        yield text
        yield from (f"{folder}{text}" for folder in self._photos)
        for folder in self._folders:
            start = text.find(f"{folder}/")
            while start >= 0:
                tail = text[start : start + 2048]
                for end in ENDS.finditer(tail):
                    yield tail[: end.start()]
                    if "\n" in end.group():
                        break
                start = text.find(f"{folder}/", start + 1)

    def _hash(self, data: bytes) -> str:
        return keyed_hash(self._key, data)

    def _report(self, item: Item, what: str) -> None:
        target = self._proof.declared if item.path.startswith("logs/") else self._proof.found
        target.append(f"{item}: {what}")


def _is_vector(kind: Any) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield all texts of a JSON value with their keys; keys are texts too."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield "", name
            yield from _texts(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, key)
    elif isinstance(value, str):
        yield key, value


def _strings(text: str) -> Iterator[str]:
    for literal in STRING.findall(text):
        try:
            yield json.loads(literal)
        except ValueError:  # it is no JSON
            continue


def main(argv: list[str] | None = None) -> int:
    """Prove an erasure; the exit code is 0 if nothing was found, 1 if something was, 2 if it could not be searched."""
    parser = argparse.ArgumentParser(prog="python -m include.erasure.proof", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("receipt", help="erasures/<id>.json of the lake: a path, or s3://bucket/erasures/<id>.json")
    parser.add_argument("--relative-to", default=".", help="folder to which a relative path refers")
    options = parser.parse_args(argv)
    uri: str = options.receipt
    if "://" not in uri:
        uri = f"file://{Path(options.relative_to, Path(uri).expanduser()).resolve()}"
    root, separator, name = uri.rpartition("/erasures/")
    if not separator or not name.endswith(".json"):
        sys.stderr.write(f"{options.receipt} is no receipt: expected <lake>/erasures/<id>.json\n")
        return 2
    store = Store(root)
    try:
        receipt: Receipt = json.loads(store.read_current(f"erasures/{name}"))
        key = bytes.fromhex(json.loads(store.read_current("erasures/denylist.json"))["key"])
    except Exception as error:  # of any store
        sys.stderr.write(f"{uri} cannot be read: {type(error).__name__}: {error}\n")
        return 2
    proof = Prover(store, receipt, key).run()
    sys.stdout.write(f"{_describe(root, receipt, proof)}\n")
    return 1 if proof.found else 0


def _describe(root: str, receipt: Receipt, proof: Proof) -> str:
    compared = f"{proof.rows:,} rows, {proof.vectors:,} vectors, {proof.texts:,} texts"
    lines = [
        f"erasure {receipt['erasure']} of {len(receipt['photos'])} photos in {root}, finished {receipt['finished_at']}",
        f"read: {proof.files:,} files and {proof.old_versions:,} old versions; compared: {compared}",
        *(f"FOUND {line}" for line in proof.found),
        *(f"remains, as declared: {line}" for line in proof.declared),
        *(f"another photo with the same bytes: {line}" for line in proof.copies),
    ]
    verdict = f"{len(proof.found)} traces were found" if proof.found else "no path, no row and no vector was found"
    return "\n".join([*lines, verdict])


if __name__ == "__main__":
    sys.exit(main())
