"""The artifacts that runs read from the lake: code bundle, model, wheels."""
