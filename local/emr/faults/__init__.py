"""Faults of a real cluster, injected by the rules of a scenario."""
