"""The report of a run and the page of reports in the Airflow UI."""
