"""The numerics of PCA: moments, eigendecomposition, the fitted PCA."""
