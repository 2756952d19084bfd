"""``make explore``: the published features in Embedding Atlas, which has an environment of its own."""
