"""Artifacts of a lake: code bundle, model, wheels."""
