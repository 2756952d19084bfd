"""Checks that data stays in the allowed regions, before a run and after EMR created the cluster."""
