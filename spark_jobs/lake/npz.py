"""Read and write numpy's .npz files as bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def dump(**arrays: Any) -> bytes:
    """Return a file of named arrays; equal arrays give equal bytes."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def load(data: bytes) -> dict[str, NDArray[Any]]:
    """Return a file's arrays by name, without unpickling anything.

    Raises
    ------
    ValueError
        If the bytes are not an intact .npz file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors for damaged files
        raise ValueError(f"{len(data)} bytes that are not an intact .npz file ({error})") from error
