"""The records that the jobs write for others to read: featurize.json and pca.json. Standard library only.

With :mod:`spark_jobs.args`, this is the door between the Airflow side and the jobs.
"""
