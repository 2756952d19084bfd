"""Prices, the forecast of a run's cost, and its actual cost."""
