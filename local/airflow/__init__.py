"""Airflow on this machine: its home, its components, their supervisor."""
