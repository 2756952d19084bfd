"""Load images and a model into a local lake."""
