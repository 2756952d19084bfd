"""The seed's pipeline and ours, side by side, on the same images."""
