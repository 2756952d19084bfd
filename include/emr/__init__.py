"""The EMR API: find, create and terminate clusters without duplicates or leaks."""
