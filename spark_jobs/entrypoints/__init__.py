"""The main programs for ``spark-submit``."""
