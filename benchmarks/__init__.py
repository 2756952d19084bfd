"""Tables of measurements: ours and what it is measured against, on the same photos in one run."""
