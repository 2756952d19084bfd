"""The pca job."""
