"""Benchmarks: the project and its alternatives, measured on the same photos in one run."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
