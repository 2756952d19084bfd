"""numpy's .npz files as bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def dump(**arrays: Any) -> bytes:
    """Return the file of some arrays, by their names: the same bytes for the same arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def load(data: bytes) -> dict[str, NDArray[Any]]:
    """Return a file's arrays by their names; nothing is unpickled.

    Raises
    ------
    ValueError
        When the bytes are no such file, or a damaged one.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # it fails in a dozen ways of zipfile, zlib and numpy
        raise ValueError(f"{len(data)} bytes that are not a whole .npz file ({error})") from error
