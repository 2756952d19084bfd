"""The denylist of erased photos: a file with the same bytes is a reject, wherever it is and whatever its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from spark_jobs.args import ERASED
from spark_jobs.images.rejects import Reject
from spark_jobs.keyed_hash import keyed_hash
from spark_jobs.lake import storage
from spark_jobs.records import DenylistRecord

if TYPE_CHECKING:
    from spark_jobs.images.reading import Data


@dataclass(frozen=True)
class Denylist:
    """The content of the denylist.

    Attributes
    ----------
    key : bytes
        Key of the hashes.
    contents : frozenset of str
        Keyed hashes of the bytes of erased photos; none of them by default.
    """

    key: bytes = b""
    contents: frozenset[str] = frozenset()

    def check(self, content: Data) -> Reject | None:
        """Return the reject if a file's content was erased, else None."""
        if self.contents and keyed_hash(self.key, memoryview(content)) in self.contents:
            return Reject(ERASED, "a photo with these bytes was erased; it stays out until the denylist is edited")
        return None


def read(uri: str | None) -> Denylist:
    """Return the denylist of a lake; an empty one if the lake has none.

    Parameters
    ----------
    uri : str or None
        URI of the file.
    """
    if uri is None:
        return Denylist()
    try:
        record = cast(DenylistRecord, storage.read_json(uri))
    except FileNotFoundError:
        return Denylist()
    return Denylist(bytes.fromhex(record["key"]), frozenset(record["contents"]))
