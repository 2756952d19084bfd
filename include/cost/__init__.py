"""Prices, the forecast of a run, and the account of what it cost."""
