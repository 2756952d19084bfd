"""The reports of runs, and the page that shows them in the Airflow UI."""
