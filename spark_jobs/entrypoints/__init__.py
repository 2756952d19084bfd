"""The files that ``spark-submit`` is given: a few lines each."""
