"""Trackers: TensorBoard, MLflow, Weights & Biases and Trackio."""
