"""Files of the lake: the storage layer of the jobs and of Airflow; schemas and row groups of the jobs."""
