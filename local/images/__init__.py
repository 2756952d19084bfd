"""Images and a model for a local lake."""
