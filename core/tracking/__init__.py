"""Experiment trackers: a run's curves and results, sent to Weights & Biases or MLflow."""
