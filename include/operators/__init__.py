"""Airflow operators, sensors and links of the DAGs."""
