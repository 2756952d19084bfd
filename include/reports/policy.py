"""Content security policies: a page runs its own scripts and style only, named by their digests."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence


def content_policy(scripts: Sequence[str], style: str) -> str:
    """Return the policy of a page that contains these scripts and this style, and pictures, and loads nothing else."""
    allowed = " ".join(_source(script) for script in scripts) or "'none'"
    sources = f"script-src {allowed}; style-src {_source(style)}; img-src data:"
    return f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"


def within_airflow(policy: str) -> str:
    """Return the policy of the same page when it is served: only pages of the same origin, Airflow's, may embed it."""
    return f"{policy}; frame-ancestors 'self'"


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
