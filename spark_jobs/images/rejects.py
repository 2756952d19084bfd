"""Rejects: files that could not become features, and the fixed set of reasons why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

REASONS: Final = {
    "access_denied": "the store or the file system refuses to let the job read it (HTTP 403, EACCES)",
    "changed": "has another size than when it was listed: it was replaced, or is still being written",
    "corrupt": "begins as an image, but its content breaks the format's rules",
    "decoder_crashed": "kills the process that decodes it, or makes it exceed its memory or its time",
    "directory": "is a folder, though its name is that of an image; what it holds is listed by itself",
    "empty_file": "has no bytes",
    "erased": "has the bytes of a photo that was erased (`make forget`)",
    "file_too_large": "has more bytes than --max-file-bytes; it is not read",
    "non_finite_features": "decodes, but the model's output for it has NaN or infinite values",
    "not_an_image": "its content is in none of the formats that are read",
    "too_many_pixels": "has more pixels than --max-pixels (or than Pillow's own limit); it is not decoded",
    "truncated": "ends before the image does",
    "unsupported_variant": "is in a variant of its format that Pillow does not read, such as another sample depth",
    "unreadable": "is not a regular file, or the disk fails to read it",
    "vanished": "was listed, but is no longer there",
}
"""Every reason of a reject, and what it says of the file."""


@dataclass(frozen=True)
class Reject:
    """Why a file has no features.

    Attributes
    ----------
    reason : str
        A key of :data:`REASONS`.
    detail : str
        For a person: what was found.
    """

    reason: str
    detail: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is not one of the reasons {sorted(REASONS)}")
