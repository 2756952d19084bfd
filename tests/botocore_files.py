"""The descriptions of AWS services, which botocore parses again for each new session: one second for EC2."""

from __future__ import annotations

import functools

import botocore.loaders


def parse_once() -> None:
    """Parse each of botocore's data files once in this process."""
    parse = functools.cache(botocore.loaders.JSONFileLoader().load_file)
    botocore.loaders.JSONFileLoader.load_file = lambda self, path: parse(path)
