"""Erasure on demand: a photo and everything derived from it, in every kept state and in old versions of objects."""
