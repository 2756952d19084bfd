"""The Spark jobs: a self-contained package that is zipped to the cluster.

It never imports Airflow, ``include`` or boto3. Only the package :mod:`spark_jobs.model.export` imports TensorFlow; it
runs where the model is published, never on a worker.
"""
