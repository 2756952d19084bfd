"""Only the PCA, on random features: our PCA against other systems, and how our PCA scales."""
