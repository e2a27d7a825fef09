"""How well a checkpoint does: metrics, the threshold, which checkpoint, and the classical baselines."""
