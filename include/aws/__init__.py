"""Access to AWS from the Airflow side: endpoints, regions, retries."""
