"""The featurize job."""
