"""The lake: where everything is, access, publication and verification."""
