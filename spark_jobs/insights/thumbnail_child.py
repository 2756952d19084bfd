"""The child process that decodes photos for thumbnails: as the decoder's own, but it also takes files that end early.

It is run as ``python -m spark_jobs.insights.thumbnail_child``.
"""

from __future__ import annotations

from typing import Any

from PIL import ImageFile

from spark_jobs.images import decode_child, decoding


def decode(data: bytes, **limits: Any) -> Any:
    """Decode a photo as :func:`spark_jobs.images.decoding.decode_picture`; what a truncated file lacks is grey."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    return decoding.decode_picture(data, **limits)


if __name__ == "__main__":
    raise SystemExit(decode_child.main(decode))
