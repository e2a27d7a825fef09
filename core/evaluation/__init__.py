"""Evaluation: scoring, metrics with intervals, calibration and threshold, selection, and baselines."""
