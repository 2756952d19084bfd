"""Clusters of the endpoint: states, requests, records, journal."""
