"""The lake: layout, file access, model selection, verification and publication."""
