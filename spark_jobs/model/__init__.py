"""MobileNetV2: inference with LiteRT, export from Keras."""
