"""Erasure of rows from the lake's datasets, in one process without Spark; Airflow calls it."""
