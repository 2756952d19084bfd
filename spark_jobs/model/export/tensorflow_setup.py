"""TensorFlow without GPU, oneDNN and log messages."""

from __future__ import annotations

import logging
import os
from typing import Any


def import_tensorflow() -> Any:
    """Import TensorFlow with settings that give exports of the same weights the same bytes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tf
