"""The PCA part alone, on features drawn at random: ours and what people use instead, and how ours scales."""
