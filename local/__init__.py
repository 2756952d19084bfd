"""What exists only on a developer machine and in CI. Production never imports it."""
