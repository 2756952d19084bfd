"""The clusters of the endpoint: their life, their steps, their instances, their journal."""
