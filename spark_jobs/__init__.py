"""The Spark jobs: a self-contained package that is zipped to the cluster.

It never imports Airflow, ``include`` or boto3, and TensorFlow only in :mod:`spark_jobs.export`, which runs where the
model is published and never on a worker.
"""
