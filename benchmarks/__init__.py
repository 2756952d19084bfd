"""Benchmarks: the project and its alternatives, measured on the same photos in one run."""
