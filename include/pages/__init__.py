"""The project's pages in the Airflow UI: runs, reports, files, clusters and logs, behind Airflow's login."""
