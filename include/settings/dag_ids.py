"""The ids of the two DAGs. Imports nothing, so that every part may import it."""

FEATURES_DAG = "fruit_features"
REAPER_DAG = "fruit_reaper"
