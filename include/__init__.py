"""The Airflow side: settings, locations, the cluster and its steps as data, and the bodies of the DAG's tasks."""
