"""Experiment trackers: what a run writes down anyway, sent on to whoever keeps such records."""
