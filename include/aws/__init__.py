"""How the Airflow side reaches AWS: endpoints, regions, retries."""
