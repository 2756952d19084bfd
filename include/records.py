"""The records that cross a task boundary or are files in the lake: one typed definition each."""
