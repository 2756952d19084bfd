"""The ids of the DAGs. Imports nothing, so that every part may import it."""

FEATURES_DAG = "fruit_features"
FORGET_DAG = "fruit_forget"
REAPER_DAG = "fruit_reaper"
