"""Export of MobileNetV2 from Keras to LiteRT: ``python -m spark_jobs.model.export --weights PATH --output URI``.

This runs where a model is published, never on the cluster. It is the only package that imports TensorFlow.
"""
